#!/usr/bin/env bash
# Turns the package names that `go build -v` prints into a line now and then,
# so that a cold build is not silent; anything else is passed on.
set -u
count=0 last=$SECONDS
while IFS= read -r line; do
  case "$line" in
    *' '* | *:* | '') printf '%s\n' "$line" >&2 ;;
    *)
      count=$((count + 1))
      if [ $((SECONDS - last)) -ge 10 ]; then
        printf 'building %s: %d packages compiled so far\n' "$1" "$count" >&2
        last=$SECONDS
      fi
      ;;
  esac
done
