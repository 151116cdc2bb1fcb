# meshctl. "make help" lists what there is to do.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GORELEASER  := github.com/goreleaser/goreleaser/v2@v2.14.0
FUZZTIME    ?= 30s
ALLOCATIONS := $(addprefix ./internal/mesh/,seal wire route link/native node)
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := build
.PHONY: help build deps test lint manifests fuzz bench scale chaos interop generate pictures snapshot clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## bin/meshctl
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/meshctl ./cmd/meshctl

deps: ## what the tests need beside Go: a C compiler for -race, Node, Python
	@.ci/deps

test: deps ## every test, those with JavaScript peers included
	@.ci/gotest ./...
	@go test -run '^TestAllocations$$' $(ALLOCATIONS) # the race detector has its own

lint: ## formatting, vet on three systems, staticcheck, manifests, known vulnerabilities
	@test -z "$$(gofmt -l bench cmd configs docs internal test)" || { echo "not formatted; run gofmt -w:"; gofmt -l bench cmd configs docs internal test; exit 1; }
	go vet ./...
	cd bench && go vet ./...
	cd docs/pictures && go vet ./...
	@$(MAKE) --no-print-directory manifests
	GOOS=windows CGO_ENABLED=0 go vet ./...
	GOOS=darwin CGO_ENABLED=0 go vet ./...
	go run $(STATICCHECK) ./...
	@.ci/vulncheck

manifests: ## configs/kubernetes against the types of Kubernetes, systemd units where systemd is
	cd test/manifests && go vet ./... && go test ./...
	@.ci/units

fuzz: ## every fuzz target for FUZZTIME (30s) or a third of it, two at a time
	@FUZZTIME=$(FUZZTIME) .ci/fuzz

bench: deps ## comparison with other systems into docs/performance.md; BENCH_FLAGS=-quick is short
	cd bench && go run . -out ../docs/performance.md $(BENCH_FLAGS)

scale: ## the control plane with 10 to 10,000 nodes into docs/performance.md
	cd bench && go run . -scale -out ../docs/performance.md

chaos: build ## the long forms of meshctl chaos, about an hour, into docs/reliability.md; CHAOS_FLAGS="soak" is one
	go run ./test/chaos/publish -- $(CHAOS_FLAGS)

interop: deps ## the tests with JavaScript peers, none skipped
	MESHCTL_REQUIRE_INTEROP=1 .ci/gotest ./test/interop/...

generate: ## completions, references and the sample configuration, from the code
	go test ./internal/config ./internal/cli -run '^TestGenerated$$' -update

pictures: build ## those of docs/dashboard.md, from the demo in tmux
	cd docs/pictures && go run .

snapshot: ## what a release would have, in dist/
	go run $(GORELEASER) check
	go run $(GORELEASER) release --snapshot --clean

clean: ## remove what was built
	rm -rf bin dist
