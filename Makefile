# nodekiln: every task of a developer, a builder and CI.
# `make` alone lists them. All of them can be run again at any time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Whose firstboot the command carries: on an arm64 host its own alone. A quick build names one:
# make build ARCHITECTURES=x86_64
ARCHITECTURES ?= $(if $(filter x86_64,$(shell uname -m)),x86_64) arm64

.PHONY: help tools build components demo cluster test lint unit integration e2e verify-vendor-images docs docs-check bench fuzz clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## Install what building and testing need (Debian packages, Rust)
	@scripts/install-tools

build: tools ## Build the command with its first-boot programs: target/release/nodekiln
	@scripts/build $(ARCHITECTURES)

components: tools ## Obtain the node components for the demo and the tests
	@scripts/components

demo: build components ## Bake a Debian 12 node image without root, boot it, show what happened
	@scripts/demo

cluster: tools ## Run a cluster without AWS, for a try by hand: it says how; until Ctrl-C
	@scripts/cluster >/dev/null
	@scripts/judges authenticator >/dev/null
	@cargo build --quiet --locked -p nodekiln-tests --bins
	@target/debug/nodekiln-cluster --folder out/cluster

test: ## Run everything that must hold: lints, unit, integration and boot tests
	@scripts/test

lint: tools ## Formatting, clippy, dependency rules, shell scripts
	@scripts/test lint

unit: tools ## Unit tests
	@scripts/test unit

integration: build ## Tests on real images
	@scripts/test integration

e2e: build components ## Bake, boot and join in QEMU; then every layout, and joins that go wrong (hours)
	@scripts/test e2e failures

verify-vendor-images: build ## Bake, verify and boot each image that lies in DIR
	@scripts/verify-vendor-images "$(DIR)"

docs: build ## Regenerate what is generated in docs/
	@scripts/generate-docs

docs-check: build ## Fail when something generated is out of date
	@scripts/generate-docs --check

bench: build components ## Measure against baselines; raw results go to benches/results/
	@scripts/bench

fuzz: ## Fuzz each parser for a minute (nightly Rust, cargo-fuzz)
	@scripts/fuzz

clean: ## Remove what was built here; caches outside stay
	@rm -rf target out
