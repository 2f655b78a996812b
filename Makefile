# Millstream's commands. `make demo` needs a Rust toolchain and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Outside the checkout, so that a fresh clone does not rebuild the world.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/millstream/target
MILLSTREAM := $(CARGO_TARGET_DIR)/debug/millstream
SEEDS ?= 2000
SECONDS ?= 60

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Without Kafka it needs no C library: none has to be compiled, which takes minutes.
.PHONY: demo
demo: ## Run the main job on the embedded log: faults, a kill, retries, dead letters, redrive
	cargo build --quiet -p millstream --no-default-features || cargo build -p millstream --no-default-features
	$(MILLSTREAM) demo

.PHONY: test
test: prepare ## Install what the tests need and run all of them
	tests/run

.PHONY: prepare
prepare: ## Install the Wasm targets and the linter's and formatter's components
	tests/prepare

.PHONY: sim
sim: ## Attack the core with seeded histories: make sim SEEDS=10000, or make sim SEED=7 for one
ifdef SEED
	cargo run --quiet -p millstream-sim -- --seed $(SEED)
else
	cargo run --quiet -p millstream-sim -- --seeds $(SEEDS)
endif

.PHONY: soak
soak: ## Long forms: 200 kills of a host under load and 100 on Kafka, the simulator with 10,000 seeds, two million messages through Kafka
	MILLSTREAM_SOAK=1 cargo test --workspace --test crash -- --nocapture
	cargo run --quiet -p millstream-sim -- --seeds 10000
	MILLSTREAM_SOAK=1 cargo test --workspace --test console -- --nocapture incident
	MILLSTREAM_SOAK=1 cargo test --workspace --test kafka -- --nocapture --test-threads 1 kills hosts failures changes

.PHONY: fuzz
fuzz: ## Bytes of strangers against all that reads them: make fuzz SECONDS=600, or make fuzz TARGETS="headers stored"
	fuzz/run $(SECONDS) $(TARGETS)

.PHONY: bench
bench: prepare ## Measure against named baselines, as ratios; results go to bench/README.md by hand
	cargo run --release -p millstream-bench
	cargo run --release -p millstream-bench -- --only throughput --rounds 1 --messages 10000000 \
		--run "pipeline, at least once, by key" --run "at least once, by key, idempotency keys" --run "at least once, by key, random"
	cargo build --release -p millstream -p millstream-tests
	cargo run --release -p millstream-tests --bin beside
	cargo run --release -p millstream-tests --bin order
	cargo run --release -p millstream-tests --bin order -- --kafka
	cargo run --release -p millstream-tests --bin watched
	cargo run --release -p millstream-bench --bin kafka

.PHONY: deploy-check
deploy-check: ## Image, chart, alerts and dashboard with the real tools, under a real Prometheus; builds helm the first time
	cargo build --workspace --bin millstream
	MILLSTREAM=$(MILLSTREAM) tests/deploy/run

.PHONY: lint
lint: ## Format, clippy, rustdoc, each with warnings as errors; cargo-deny if it can be had
	tests/lint

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean
