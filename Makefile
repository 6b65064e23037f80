# The two commands of the README, and what stands behind them.

# Passed on to the gateway: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=

.PHONY: run test test-clients test-servers build bench-publish bench-live openapi lint docs clean

run: ## Run a gateway on a private Redis
	@scripts/install.sh redis curl
	cargo run --locked --quiet -- dev $(ARGS)

test: test-clients ## Install what the tests need, and run them all
	@scripts/install.sh redis chromium curl procps python3 node php
	cargo test --locked

test-clients: ## Install the clients that the tests follow streams with, into target/clients
	@scripts/install.sh node npm venv
	@scripts/clients.sh target/clients

# What meets no server, or only the private one, that on PATH, or is about clients.
SAME_ON_ALL = browser:: clients:: openapi:: process:: readme:: redis_tls:: restart:: tidy::

test-servers: ## Run the tests that meet Redis on a newer Redis and on Valkey
	@scripts/install.sh procps
	servers=$$(scripts/servers.sh target/servers) && for server in $$servers; do \
		$$server --version && REDIS_SERVER=$$server \
			cargo test --locked --test it -- $(SAME_ON_ALL:%=--skip %) || exit 1; \
	done

build: ## Build the optimised binary
	cargo build --locked --release

bench-publish: ## Publishing, side by side with webdis; BENCH="--seconds 10 --rounds 5" to be surer
	@scripts/install.sh redis redis-benchmark webdis wrk nginx
	cargo bench --locked --bench publish -- $(BENCH)

bench-live: ## Live delivery, side by side with nchan; BENCH="paced waiters --seconds 10" for some of it, longer
	@scripts/install.sh redis nginx nchan
	cargo bench --locked --bench live -- $(BENCH)

bench-work: ## Working in groups, beside a client without a gateway; BENCH="--rounds 5" to be surer
	@scripts/install.sh redis
	cargo bench --locked --bench work -- $(BENCH)

openapi: ## Write openapi/openapi.json anew
	cargo run --locked --quiet -- openapi > openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json

lint: ## What CI checks beside the tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

docs: ## The documentation of the code
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

clean:
	cargo clean
