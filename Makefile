# noxaudit: everything a contributor runs. "make help" lists the targets.
SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# gore2regex selects the RE2 engine for the secrets auditor: about six times less CPU than Go's regexp.
export CGO_ENABLED = 0
export GOFLAGS     = -trimpath -tags=gore2regex

.PHONY: help build demo test lint fmt bench fuzz clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## build bin/noxaudit, one static binary
	go build -ldflags '$(LDFLAGS)' -o bin/noxaudit ./cmd/noxaudit

demo: build ## build and run the demo: a simulated GitHub and noxaudit, nothing else needed
	bin/noxaudit demo

test: ## run all tests, with a private PostgreSQL and a browser; nothing is skipped
	.ci/browser .ci/postgres .ci/test ./...

lint: ## formatting, go vet, staticcheck, tidy modules
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not gofmt-ed (make fmt):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff
	go mod verify

fmt: ## format all Go files
	gofmt -w $$(git ls-files '*.go')

bench: ## run the benchmarks behind docs/benchmarks.md
	.ci/postgres go test -run '^$$' -bench . -benchmem -timeout 30m ./...

fuzz: ## fuzz every parser for 20 seconds each
	.ci/fuzz 20s

clean: ## remove what build made
	rm -rf bin
