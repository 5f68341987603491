# The verbs of the project. CI runs `make test`, and nothing else.

GO       ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0
FUZZTIME ?= 30s
FUZZ     ?=
IMAGE    ?= ghcr.io/pushd/pushd:v0.1.0

.PHONY: build run image test tools deploy-check alerts-check lint vulnerabilities sdk soak fuzz bench microbench console-charts clean

build: ## bin/pushd
	$(GO) build -trimpath -ldflags="-s -w" -o bin/pushd ./cmd/pushd

run: build ## a server with an embedded NATS and a live demo feed, on loopback
	./bin/pushd serve --demo

image: ## bin/pushd-image.tar, for docker load and podman load; it needs no daemon
	cd deploy && $(GO) run ./image -tag $(IMAGE) -out ../bin/pushd-image.tar

sdk: ## the JavaScript client: clients/js/dist, and the copy that pages load
	cd clients/js && npm ci && npm run build -- ../../internal/page/assets/pushd.js

test: export SKIPPED_TESTS = $(CURDIR)/bin/skipped
test: ## everything that checks the project; it ends with what was skipped for want of what
	@mkdir -p bin && rm -f $$SKIPPED_TESTS
	@trap '$(CURDIR)/.ci/skipped $$SKIPPED_TESTS' EXIT; set -e; \
	for part in tools lint deploy-check; do $(MAKE) --no-print-directory $$part; done; \
	$(GO) test -race -shuffle=on -timeout 10m ./...; \
	cd bench/peers; $(GO) test -timeout 5m ./...

tools: ## what tests need beside Go, from Debian, where that is missing and may be installed
	@.ci/tools

deploy-check: alerts-check ## deploy/ against the types of Kubernetes, PromQL and the binary
	cd deploy && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) test -timeout 5m ./...

alerts-check: ## each alert fires when it should, and not when it should not; skipped where there is no promtool
	@PATH=$$PATH:$(CURDIR)/bin; \
	if command -v promtool >/dev/null; then cd deploy/prometheus && promtool check rules alerts.yaml && promtool test rules alerts_test.yaml; \
	elif [ -n "$$CI" ]; then echo "no promtool (make tools)"; exit 1; \
	else echo "no promtool (make tools): alerts-check" | tee -a "$${SKIPPED_TESTS:-/dev/null}"; fi

lint: vulnerabilities ## formatting, vet, staticcheck, known vulnerabilities
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd bench/peers && $(GO) vet ./...

vulnerabilities: ## those that are known, in what is called; skipped where their database cannot be reached
	@said=$$($(GO) run $(GOVULNCHECK) ./... 2>&1) || case "$$said" in \
	  *"fetching vulnerabilities"*) echo "no database of govulncheck (a network that reaches it): vulnerabilities" | tee -a "$${SKIPPED_TESTS:-/dev/null}";; \
	  *) echo "$$said"; exit 1;; \
	esac

soak: ## the long versions of the tests
	PUSHD_SOAK=1 $(GO) test -timeout 2h ./...
	cd deploy && PUSHD_SOAK=1 $(GO) test -timeout 10m -run Rehearsal -v ./...

# As many at a time as there are processors, each with one worker; .ci/fuzz says why.
fuzz: ## each fuzz target for FUZZTIME; FUZZ='Hello|Head' those alone
	@for pkg in $$($(GO) list ./...); do \
	  $(GO) test -list '^Fuzz' $$pkg | grep -E '^Fuzz.*($(FUZZ))' | sed "s|^|$(FUZZTIME) $$pkg |"; \
	done | GO=$(GO) xargs -P $$(nproc) -L 1 .ci/fuzz

bench: ## pushd beside its peers, into bench/RESULTS.md: about 40 minutes; BENCH=-quick sees in a few whether all of it runs
	$(GO) run ./bench/compare $(BENCH)

microbench: ## the benchmarks that are in the packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

console-charts: ## uPlot of the console, of the version in internal/console/charts
	cd internal/console/charts && npm ci --ignore-scripts && cp node_modules/uplot/dist/uPlot.iife.min.js ../assets/uplot.js && \
	  cp node_modules/uplot/dist/uPlot.min.css ../assets/uplot.css && cp node_modules/uplot/LICENSE ../assets/uplot-license.txt && rm -rf node_modules

clean:
	rm -rf bin pushd-data
