# The commands for building, testing and measuring streamgate.

# Arguments for the gateway: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=

.DEFAULT_GOAL = help
.PHONY: help run test test-clients test-generated test-servers test-proxies test-slow schemathesis fuzz deny advisories build bench-publish bench-live bench-work openapi lint docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run a gateway on a private Redis
	@scripts/install.sh cc redis curl
	cargo run --locked --quiet -- dev $(ARGS)

test: test-clients ## Install the test dependencies and run all tests
	@scripts/install.sh cc redis chromium curl openssl procps python3 node php
	cargo test --locked

test-clients: ## Install the client libraries of the tests into target/clients
	@scripts/install.sh node npm venv
	@scripts/clients.sh target/clients

# Tests without a server, with only the private one (the one on PATH), or about clients.
SAME_ON_ALL = access:: browser:: clients:: deploying:: keys:: openapi:: process:: readme:: redis_tls:: restart:: tidy:: tokens::

test-servers: ## Run the tests that use Redis on a newer Redis and on Valkey
	@scripts/install.sh procps
	servers=$$(scripts/servers.sh target/servers) && for server in $$servers; do \
		$$server --version && REDIS_SERVER=$$server \
			cargo test --locked --test it -- $(SAME_ON_ALL:%=--skip %) || exit 1; \
	done

test-proxies: ## Run the tests with the reverse proxies of docs/deploying.md
	@scripts/install.sh cc redis nginx haproxy apache lighttpd
	cargo test --locked --test it -- --ignored deploying::

test-slow: ## Run the tests with slow clients (slowhttptest)
	@scripts/install.sh cc redis slowhttptest
	cargo test --locked --test it -- --ignored slow_clients::

schemathesis: ## Check a gateway against its OpenAPI document; SECONDS=600 for a longer run, SEED=2 for another run
	@scripts/install.sh redis curl venv
	cargo build --locked
	scripts/schemathesis.sh target/debug/streamgate target/schemathesis $(or $(SECONDS),45)

test-generated: ## Generate clients from the OpenAPI document, compile them, and run a program with each
	@scripts/install.sh cc redis curl node npm venv javac
	cargo build --locked
	scripts/generated.sh target/debug/streamgate target/generated

fuzz: ## Fuzz all parsers, SECONDS for each target; TARGETS="ids form" for some
	@scripts/install.sh c++
	@scripts/cargo-tool.sh cargo-fuzz 0.13.2
	PATH="$(CURDIR)/target/tools/bin:$$PATH" fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

deny: ## Check the dependencies: licenses, banned and duplicate crates, sources
	@scripts/cargo-tool.sh cargo-deny 0.20.2
	cargo fetch --locked --quiet
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny --offline check --deny unmatched-skip licenses bans sources

advisories: ## Check the dependencies for known vulnerabilities; needs the network
	@scripts/cargo-tool.sh cargo-deny 0.20.2
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny check advisories

build: ## Build the optimized binary
	cargo build --locked --release

bench-publish: ## Benchmark publishing against webdis; BENCH="--seconds 10 --rounds 5" for more precision
	@scripts/install.sh redis redis-benchmark webdis wrk nginx
	cargo bench --locked --bench publish -- $(BENCH)

bench-live: ## Benchmark live delivery against nchan; BENCH="paced waiters --seconds 10" for some scenarios, longer
	@scripts/install.sh redis nginx nchan
	cargo bench --locked --bench live -- $(BENCH)

bench-work: ## Benchmark consumer groups against a client without a gateway; BENCH="--rounds 5" for more precision
	@scripts/install.sh redis
	cargo bench --locked --bench work -- $(BENCH)

openapi: ## Regenerate openapi/openapi.json
	cargo run --locked --quiet -- openapi > openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json

lint: ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

docs: ## Build the code documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

clean: ## Remove all build output
	cargo clean
