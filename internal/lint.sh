#!/usr/bin/env bash
# Formatting, go vet and golangci-lint over every module that people wrote.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'not formatted:\n%s\nhint: run gofmt -w on them\n' "$unformatted" >&2
  exit 1
fi
linter=$(bin/sandbox tool golangci-lint)
for module in . sandbox bench; do
  [ -f "$module/go.mod" ] || continue
  echo "linting $module"
  (cd "$module" && exec "$linter" run --allow-parallel-runners --config "$OLDPWD/.golangci.yml" ./...) &
  # With an empty cache the linter compiles everything, and says nothing meanwhile.
  until timeout 20 tail -s 0.2 --pid=$! -f /dev/null; do echo "linting $module: $SECONDS s so far"; done
  wait $!
done
