# Every target is a line or two onto cargo or a script.
.DEFAULT_GOAL := help
.PHONY: demo test faults notes fuzz lint bench eval models train help

demo: models ## Play a sales call through the whole pipeline (ARGS="FILE.wav --speed 4" are passed on)
	@cargo run --release -- demo $(ARGS)

test: models ## Run every test, against real Kafka, PostgreSQL, Chromium and Python clients
	@scripts/setup test
	@scripts/test

faults: models ## Strike the chain with faults and compare with an undisturbed run (RUNS=5 SEED=1; hours if you like)
	@scripts/setup test
	@deploy/kafka/kafka fetch
	@deploy/postgresql/postgresql fetch
	@RUNS=$(RUNS) SEED=$(SEED) cargo test --release --test faults -- --ignored --exact many_runs --nocapture

fuzz: ## Give bytes that nobody meant to whatever reads bytes from outside (SECONDS=60 for each target)
	@scripts/setup demo
	@FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --release --test fuzz -- --nocapture

lint: ## Check formatting, clippy's warnings and the licences of dependencies
	@scripts/setup demo
	@cargo fmt --all --check
	@cargo clippy --release --workspace --all-targets -- -D warnings
	@scripts/licences

bench: models ## Measure what docs/figures.md reports (ARGS are passed on)
	@scripts/setup test
	@deploy/kafka/kafka fetch
	@deploy/postgresql/postgresql fetch
	@cargo bench --profile release --bench pipeline -- $(ARGS)
	@cargo bench --profile release --bench insights
	@python3 benches/transcribe/compare.py --coach $${CARGO_TARGET_DIR:-target}/release/coach

eval: models ## Measure how well is read and heard: objections and sentiment, word errors, invented words, names
	@cargo build --release
	@$$(scripts/venv models/training/requirements.txt) models/training/evaluate.py
	@python3 benches/transcribe/eval.py --coach $${CARGO_TARGET_DIR:-target}/release/coach

models: ## Fetch and convert the models, once
	@scripts/setup demo
	@python3 models/setup.py

train: ## Train the insights model anew on models/data and, where they are, the shared data
	@scripts/setup demo
	@$$(scripts/venv models/training/requirements.txt) models/training/train.py

notes: ## Kill the CRM stage over and over while the CRMs misbehave: each call's note exactly once, 20 seeds
	@CRM_SEEDS=$${CRM_SEEDS:-20} CRM_CALLS=$${CRM_CALLS:-40} cargo test --release --test crm_notes killed -- --nocapture

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10
