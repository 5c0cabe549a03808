#!/usr/bin/env bash
# Every test of the repository, against one sandbox, which is stopped at the
# end whatever happens. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
export SLIPWAY_SANDBOX="${SLIPWAY_SANDBOX:-$PWD/.sandbox}"

# Real nodes where CI says so, and else where this machine can run them.
nodes=auto
[ "${CI:-}" = true ] && nodes=true

step() { printf '\n==> %s (%dm%02ds)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

step "building the programs"
make --no-print-directory build sandbox
step "building what the sandbox runs (from the cache where it can be)"
bin/sandbox build --node="$nodes"
step "lint"
make --no-print-directory lint
step "starting the sandbox"
# What the parts said is kept: the sandbox's folder goes with it. The first
# failure is this script's, and a sandbox that cannot be stopped is one.
end() {
  local status=$?
  rm -rf test-report && mkdir -p test-report && cp -r "$SLIPWAY_SANDBOX/logs" test-report/ || true
  step "stopping the sandbox"
  bin/sandbox down || { local stopped=$?; [ "$status" -ne 0 ] || status=$stopped; }
  exit "$status"
}
trap end EXIT
bin/sandbox up --node="$nodes"
eval "$(bin/sandbox env)"
# No test may live on an identity that stands in the environment.
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL AWS_REGION KUBECONFIG
# Each part runs whatever became of the one before: one run shows every failure.
failed=()
tests() {
  local dir=$1 name=$2
  shift 2
  step "tests of $name"
  (cd "$dir" && "$@" ./...) || failed+=("$name")
}
tests . "the product" go test -count=1 -timeout 30m
tests pkg/rollout "the diagnosis engine, with its precision and recall" go test -count=1 -v -run '^TestSituations$'
tests sandbox "the sandbox, and of the chain through the shipped templates" go test -count=1 -timeout 40m
tests examples/orders "the example orders" go vet
tests examples/catalog "the example catalog" go vet
tests bench "the benchmarks" go test -count=1
for name in "${failed[@]}"; do step "FAILED: tests of $name"; done
[ "${#failed[@]}" -eq 0 ] || exit 1
step "done"
