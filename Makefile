# The ways in. Everything else is `cargo` and `cargo xtask`.
.DEFAULT_GOAL := help
.PHONY: build run test ci help

build: ## Build the release binary
	cargo build --release --locked --package breakwater-server
	@echo "built: $${CARGO_TARGET_DIR:-target}/release/breakwater"

run: build ## Build and start the broker (more flags: make run ARGS="--shards 1")
	@exec "$${CARGO_TARGET_DIR:-target}/release/breakwater" serve $(ARGS)

test: ## Install what the tests need where it is absent, then run all tests
	@scripts/test.sh

ci: ## Everything that has to pass before a change lands
	@.ci/run

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
