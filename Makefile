# The targets of this repository. `make demo` and `make test` set up what they need.
SHELL := /bin/bash -o pipefail
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TOOLS := bootstrap terraform deploy promote backup
export SLIPWAY_SANDBOX ?= $(CURDIR)/.sandbox
GO_BUILD := CGO_ENABLED=0 go build -trimpath

.PHONY: help build sandbox demo test short lint generate fixtures bench chaos up down status clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: $(addprefix bin/slipway-,$(TOOLS)) ## the five programs, into bin/

bin/slipway-%: FORCE
	@$(GO_BUILD) -v -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./tools/$* 2>&1 | internal/progress.sh $@

sandbox: ## the sandbox's own program, into bin/
	@cd sandbox && $(GO_BUILD) -v -o ../bin/sandbox . 2>&1 | ../internal/progress.sh bin/sandbox

demo: build sandbox ## the whole chain on real parts; leaves demo-report/index.html (KEEP=1 keeps the sandbox up)
	@bin/sandbox demo

test: ## every test, in a sandbox that is stopped at the end
	@internal/test.sh

short: ## the tests that need no sandbox
	@env -u SLIPWAY_SANDBOX CI= go test ./... && cd sandbox && env -u SLIPWAY_SANDBOX CI= go test ./...

lint: sandbox ## go vet, formatting and golangci-lint
	@internal/lint.sh

generate: ## everything that is generated: schemas/ (the tests fail where it is stale)
	@SLIPWAY_GENERATE=1 go test -count=1 -run Schema ./pkg/... ./tools/...

fixtures: ## what a real kubelet makes of failures, recorded anew on the sandbox's real node (pkg/rollout/testdata)
	@cd sandbox && SLIPWAY_RECORD=1 go test -count=1 -run 'RealNode(Fails|Situations)' ./internal/failures

bench: build sandbox ## benchmarks side by side with the peers (ONLY=chain picks one)
	@cd bench && go run . -only "$(ONLY)"

chaos: build sandbox ## kills at every point, and what the next run makes of it (ONLY=bootstrap picks one)
	@cd bench && go run ./chaos -only "$(ONLY)"

up: build sandbox ## start the sandbox and leave it running (NODE=true: with real nodes, as root; NODE=auto: where it can)
	@bin/sandbox up --node=$(or $(NODE),false)

down: ## stop the sandbox
	@bin/sandbox down

status: ## what runs in the sandbox
	@bin/sandbox status

clean: ## what the targets left in this folder
	rm -rf bin demo-report bench-report test-report

FORCE:
