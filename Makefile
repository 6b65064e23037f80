# The two set-up commands of the README, and the tools of contributors.

# Passed on to the gateway: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=

.DEFAULT_GOAL = help
.PHONY: help run test test-clients test-generated test-servers test-servers-all test-proxies test-cluster test-cluster-all test-cluster-moves test-slow schemathesis fuzz alerts manifests deny advisories build bench-publish bench-cluster bench-live bench-work openapi lint docs docs-site docs-tables screenshots clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run a gateway on a private Redis
	@scripts/install.sh cc redis curl
	cargo build --locked
	cargo run --locked --quiet -- dev $(ARGS)

test: test-clients ## Install what the tests need and run them all
	@scripts/install.sh cc redis chromium curl openssl procps python3 node php
	@scripts/test.sh

test-clients: ## Install the clients that tests follow streams with, into target/clients
	@scripts/install.sh node npm venv
	@scripts/clients.sh target/clients

# Tests mostly wait: for timeouts, leases and servers.
export RUST_TEST_THREADS ?= 4

# Tests of what depends on the server: its commands (ack, batches, capabilities, conditions, deletion
# and claims in surface, dead_letters, leases, scheduled, trimming, wide_letters, WAITAOF in
# durability), its counters (counters, histories, lag, lives, range, read_bytes, recreated,
# retention), its XINFO (consumers, groups, monitoring, names, streams, upkeep), its error replies
# (outage, passing), its access rules (acl), and how its slots move.
ON_EACH_SERVER = ack:: acl:: batches:: capabilities:: conditions:: consumers:: counters:: dead_letters:: durability:: \
	cluster_moves::nothing_is_lost_while_slots groups:: groups_many:: histories:: lag:: leases:: lives:: monitoring:: name_walk:: names:: outage:: passing:: \
	range:: read_bytes:: recreated:: retention:: scheduled:: streams:: surface:: trimming:: upkeep:: wide_letters::

# Tests that use no server, only the private one or the one on PATH, or that test clients.
SAME_ON_ALL = access:: browser:: client_files:: clients:: console_pages:: deploying:: documentation:: examples:: keys:: \
	openapi:: process:: readme:: redis_tls:: restart:: the_sdk_for tidy:: token_stream:: tokens:: webhook_forwarder::

# Tests that start each server themselves, so that a cluster changes nothing.
ONE_SERVER = cluster contact:: failover:: outage:: passing:: random_lives:: rolling:: sentinel:: settings::

on_servers = servers=$$(scripts/servers.sh target/servers) && for server in $$servers; do \
		$$server --version && REDIS_SERVER=$$server cargo test --locked --test it -- $(1) || exit 1; \
	done

test-servers: ## Run the tests whose answers depend on the server on a newer Redis and on Valkey
	@scripts/install.sh procps
	$(call on_servers,$(ON_EACH_SERVER))

test-servers-all: ## Run all tests that use Redis on a newer Redis and on Valkey
	@scripts/install.sh procps
	$(call on_servers,$(SAME_ON_ALL:%=--skip %))

on_cluster = REDIS_CLUSTER=1 cargo test --locked --test it -- $(1)

test-cluster: ## Run the tests whose answers depend on the server on a cluster of three masters
	@scripts/install.sh cc redis procps
	$(call on_cluster,$(ON_EACH_SERVER) events $(ONE_SERVER:%=--skip %))

test-cluster-all: ## Run all tests that use the shared Redis on a cluster of three masters
	@scripts/install.sh cc redis procps
	$(call on_cluster,$(SAME_ON_ALL:%=--skip %) $(ONE_SERVER:%=--skip %))

test-cluster-moves: ## Move all slots of a cluster there and back under load
	@scripts/install.sh cc redis procps
	cargo test --locked --test it -- --ignored --nocapture cluster_moves::

test-proxies: ## Run the tests of the proxies that docs/deploying.md configures
	@scripts/install.sh cc redis nginx haproxy apache lighttpd
	cargo test --locked --test it -- --ignored deploying::

test-slow: ## Run the tests with the slow clients of slowhttptest
	@scripts/install.sh cc redis slowhttptest
	cargo test --locked --test it -- --ignored slow_clients::

schemathesis: ## Test a gateway against its OpenAPI document; SECONDS=600 for longer, SEED=2 for another run
	@scripts/install.sh redis curl venv
	cargo build --locked
	scripts/schemathesis.sh target/debug/streamgate target/schemathesis $(or $(SECONDS),45)

test-generated: ## Generate clients from the OpenAPI document, compile them, and run a program with each
	@scripts/install.sh cc redis curl node npm venv javac go
	cargo build --locked
	scripts/generated.sh target/debug/streamgate target/generated

fuzz: ## Fuzz every parser of client input, SECONDS for each target; TARGETS="ids form" for some
	@scripts/install.sh c++
	@scripts/cargo-tool.sh cargo-fuzz 0.13.2
	PATH="$(CURDIR)/target/tools/bin:$$PATH" fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

alerts: ## Check the alert rules for Prometheus, and run their tests
	@scripts/install.sh promtool
	promtool check rules deploy/prometheus/alerts.yml
	promtool test rules deploy/prometheus/alerts.test.yml

manifests: ## Check the Kubernetes manifests, the Helm chart and the workflows
	@scripts/install.sh venv
	@scripts/manifests.sh target/manifests

deny: ## Check licenses, banned and duplicate crates, and sources
	@scripts/cargo-tool.sh cargo-deny 0.20.2
	cargo fetch --locked --quiet
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny --offline check --deny unmatched-skip licenses bans sources

advisories: ## Check dependencies for known vulnerabilities; needs the network
	@scripts/cargo-tool.sh cargo-deny 0.20.2
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny check advisories

build: ## Build the optimised binary
	cargo build --locked --release

bench-publish: ## Publishing, side by side with webdis; BENCH="--seconds 10 --rounds 5" for steadier figures
	@scripts/install.sh redis redis-benchmark webdis wrk nginx
	cargo bench --locked --bench publish -- $(BENCH)

bench-cluster: ## A cluster of three masters, side by side with one Redis
	@scripts/install.sh redis wrk
	cargo bench --locked --bench cluster -- $(BENCH)

bench-live: ## Live delivery, side by side with nchan; BENCH="paced waiters --seconds 10" for some scenarios, longer
	@scripts/install.sh redis nginx nchan
	cargo bench --locked --bench live -- $(BENCH)

bench-work: ## Consumer groups, beside a Redis client; BENCH="ordered --rounds 5" for groups with an order, steadier
	@scripts/install.sh redis
	cargo bench --locked --bench work -- $(BENCH)

openapi: ## Write openapi/openapi.json
	cargo run --locked --quiet -- openapi > openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json

lint: ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

docs-site: ## Build docs as a site, into target/book, and check its links
	@scripts/install.sh cc python3
	@scripts/cargo-tool.sh mdbook 0.5.4 --no-default-features
	target/tools/bin/mdbook build docs
	python3 scripts/book-links.py target/book

docs-tables: ## Write the generated tables of docs: settings, errors, metrics
	@scripts/install.sh cc redis
	WRITE_TABLES=1 cargo test --locked --quiet --test it -- documentation::the_tables

screenshots: test-clients ## Write the pictures of the console, into docs/images
	@scripts/install.sh cc redis chromium procps
	cargo test --locked --quiet --test it -- --ignored console_pages::pictures

docs: ## Build the documentation of the code
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

clean: ## Remove everything that was built
	cargo clean
