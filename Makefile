# The verbs of the project. CI runs `make test`, and nothing else.

GO       ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s

.PHONY: build run test lint soak fuzz bench microbench clean

build: ## bin/pushd
	$(GO) build -trimpath -ldflags="-s -w" -o bin/pushd ./cmd/pushd

run: build ## a server with an embedded NATS and a live demo feed, on loopback
	./bin/pushd serve --demo

test: lint ## everything that checks the project
	$(GO) test -race -shuffle=on -timeout 10m ./...
	cd bench/peers && $(GO) test -timeout 5m ./...

lint: ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd bench/peers && $(GO) vet ./...

soak: ## the long versions of the tests
	PUSHD_SOAK=1 $(GO) test -timeout 2h ./...

fuzz: ## each fuzz target for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

bench: ## pushd beside its peers, into bench/RESULTS.md: about 40 minutes; BENCH=-quick sees in a few whether all of it runs
	$(GO) run ./bench/compare $(BENCH)

microbench: ## the benchmarks that are in the packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf bin pushd-data
