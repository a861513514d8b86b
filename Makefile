# What people and CI call. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# With `make -j` two cargo builds would only wait for, and slow down, one another.
.NOTPARALLEL:
.PHONY: help run test test-long unit unit-long e2e e2e-long proto chaos fault-matrix mutants build bench bench-quick bench-long lint fmt clean

# The folders' Makefiles run elsewhere: a relative path must mean the same to them.
ifneq ($(CARGO_TARGET_DIR),)
export CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## install what is missing, build, start everything, process a first batch, serve until Ctrl-C
	@scripts/run-without-docker.sh

test: ## cargo test, then the end-to-end tests that take less than five seconds each; nothing to start by hand
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory e2e
	@echo "make test: all passed: $$(cat target/unit-summary.txt); end to end: pytest's closing line above"

test-long: unit-long e2e-long ## all other tests: kills, outages, fuzzing, SQS, NATS, what measures time; 20 minutes

# Built as `make run` builds: what it has compiled is not compiled again. So without SQS and NATS.
unit: ## cargo test of the workspace, without the SQS and NATS engines and the benchmarks
	@scripts/init-repo.sh --test
	@scripts/unit-tests.sh --release --workspace --exclude bench --exclude ledger_nats --exclude queue_sqs --no-default-features

unit-long: ## cargo test of what `make unit` leaves out
	@scripts/init-repo.sh --test
	@scripts/unit-tests.sh --release -p bench -p ledger_nats -p queue_sqs
	@scripts/unit-tests.sh --release -p order_service reconciled::sqs
	# Only a debug build dies at a named point, and only clap's debug build checks a command's definition.
	@scripts/unit-tests.sh -p order_service reconciled::killed
	@scripts/unit-tests.sh -p order_service -p bench --bins the_definition_is_sound

e2e: ## build both programs as `make run` does and run the end-to-end tests of `make test` against them
	@scripts/local-test-script.sh

e2e-long:
	@scripts/local-test-script.sh --long

proto: ## write the code of the contracts (proto/generated) anew, after a change of a .proto file
	UPDATE_GENERATED=1 cargo test --release -p proto

chaos: ## faults at random under load for CHAOS_MINUTES (10), then the invariants; CHAOS_SEED; kept in bench/results
	@scripts/chaos.sh

fault-matrix: ## every named statement x every way to lose its connection, under load, then the invariants; 10 minutes
	@scripts/chaos.sh matrix

mutants: ## one build with all seeded faults; each must be noticed by the tests that claim it
	@scripts/init-repo.sh --test
	@TMPDIR=$$(scripts/scratch-dir.sh) scripts/run-mutants.py $(MUTANTS)

build: ## builds for production of both programs, as order_service/bin/app and data_manager/bin/app
	@$(MAKE) --no-print-directory -C order_service build
	@$(MAKE) --no-print-directory -C data_manager build

bench: ## every row of docs/performance.md but the long ones, in less than 15 minutes; kept in bench/results
	@$(MAKE) --no-print-directory bench-build
	@$(BENCH) run --all

bench-quick: ## the daily subset of the benchmarks, in about 2 minutes; nothing is kept
	@$(MAKE) --no-print-directory bench-build
	@$(BENCH) quick

bench-long: ## the long rows (Q3, S2, S3), in about an hour; kept beside the others
	@$(MAKE) --no-print-directory bench-build
	@$(BENCH) run --long

# What is measured is built first, and not while something else is being measured.
BENCH = $(or $(CARGO_TARGET_DIR),target)/dist/bench
.PHONY: bench-build
bench-build:
	@scripts/init-repo.sh
	cargo build --profile dist --workspace --bins

lint: ## formatting, clippy, documentation, licences, sources and advisories of the dependencies
	@scripts/init-repo.sh --lint
	cargo fmt --all --check
	cargo deny check --hide-inclusion-graph bans licenses sources
	scripts/check-advisories.sh
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

fmt: ## format the code
	cargo fmt --all

clean: ## remove all that was built (not the services' data)
	cargo clean
	rm -rf target order_service/bin data_manager/bin
