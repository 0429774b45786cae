# Slipway: `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

UV_VERSION := 0.13.8
TOOLS := .tools
UV := $(TOOLS)/bin/uv
PY := .venv/bin/python
RUNNER_PY := .venv-runner/bin/python
PYTEST_ARGS ?=

# Python reads what it compiled once: without this, an environment that forbids bytecode pays 10 s for an import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup lock generate lint lint-operator lint-runner control-plane test test-rollouts test-slow e2e demo bench cluster clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9_-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@python3 -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet uv==$(UV_VERSION)

.venv/.ready: requirements/dev.txt pyproject.toml | $(UV)
	@echo "== operator environment"
	@$(UV) venv --quiet --clear .venv
	@VIRTUAL_ENV=.venv $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps -e .
	@touch $@

.venv-runner/.ready: requirements/dev-runner.txt pyproject.toml | $(UV)
	@echo "== runner environment"
	@$(UV) venv --quiet --clear .venv-runner
	@VIRTUAL_ENV=.venv-runner $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/dev-runner.txt
	@VIRTUAL_ENV=.venv-runner $(UV) pip install --quiet --no-deps -e .
	@touch $@

.stock-servers/.ready: requirements/stock-servers.txt requirements/stock-triton.txt | $(UV)
	@echo "== KServe's stock servers"
	@rm -rf .stock-servers
	@for group in stock-servers stock-triton; do \
	  $(UV) pip install --quiet --no-deps --require-hashes --python-version 3.11 --target .stock-servers/$$group \
	    -r requirements/$$group.txt || exit 1; done
	@touch $@

setup: .venv/.ready .venv-runner/.ready ## Create both virtual environments (operator; runner) from the lock files

lock: | $(UV) ## Resolve dependencies anew into requirements/
	@for group in operator runner; do \
	  $(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra $$group \
	    pyproject.toml -o requirements/$$group.txt; done
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra operator \
	  --group pyproject.toml:dev pyproject.toml -c requirements/operator.txt -o requirements/dev.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra runner \
	  --group pyproject.toml:dev-runner pyproject.toml -c requirements/runner.txt -o requirements/dev-runner.txt
	@for group in stock-servers stock-triton; do \
	  $(UV) pip compile --quiet --no-deps --generate-hashes --no-header --python-version 3.11 \
	    --group pyproject.toml:$$group -o requirements/$$group.txt; done

# One file's tests stay in one process; the longest files come first, so that no process waits for another's tail.
SIDE_BY_SIDE := -m "not slow" --dist loadfile --no-loadscope-reorder

generate: setup ## Write CRDs, chart templates, reference pages, the compiled pipeline and feature_repo/ anew
	@$(PY) -m slipway.api.crd --write
	@$(PY) -m benchmarks.page
	@$(RUNNER_PY) -m slipway_pipelines.training.pipeline
	@$(RUNNER_PY) -m slipway_pipelines.features.repo --from examples/flight-delays/manifests --out feature_repo

lint: lint-operator lint-runner ## Formatting, lint, types, import layers, generated files

lint-operator: .venv/.ready
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy operator/slipway e2e/slipway_cluster e2e/slipway_demo e2e/journeys benchmarks
	@.venv/bin/lint-imports

lint-runner: setup
	@.venv/bin/mypy --cache-dir .mypy_cache/runner --python-executable $(RUNNER_PY) \
	  pipelines/slipway_pipelines serving/slipway_server e2e/teams
	@$(PY) -m slipway.api.crd --check
	@$(PY) -m benchmarks.page --check
	@$(RUNNER_PY) -m slipway_pipelines.features.repo --from examples/flight-delays/manifests --out feature_repo --check

control-plane: .venv/.ready
	@$(PY) -m slipway.cli.main cluster build --only kube-apiserver,etcd

# Where nothing is built yet, the compiler works while packages are downloaded and types are checked.
test: ## Unit tests, and tests on a real kube-apiserver and etcd
	@$(MAKE) --no-print-directory --jobs 2 control-plane lint
	@$(PY) -m pytest -n 4 -p support.side_by_side $(SIDE_BY_SIDE) $(PYTEST_ARGS) operator/tests e2e/tests
	@$(RUNNER_PY) -m pytest -n 3 $(SIDE_BY_SIDE) $(PYTEST_ARGS) serving/tests pipelines/tests examples/flight-delays/tests

test-rollouts: setup control-plane ## Rollouts on a real kube-apiserver, gateway and Envoy, with requests; long histories: minutes
	@SLIPWAY_SEARCH=thorough $(PY) -m pytest -n 4 -m "slow or law" --dist loadfile --no-loadscope-reorder --timeout 900 \
	  $(PYTEST_ARGS) operator/tests e2e/tests

test-slow: test-rollouts .stock-servers/.ready ## The same, and whole training runs, large logs, Feast's own join
	@$(RUNNER_PY) -m pytest -m slow --timeout 900 $(PYTEST_ARGS) pipelines/tests serving/tests examples/flight-delays/tests

cluster: setup ## A local kind cluster with everything Slipway runs on
	@bin/slipway cluster up

JOURNEYS ?= $(if $(KFP),flights)
KFP ?=
e2e: setup ## Journeys on the local cluster; JOURNEYS="flights or deletion" for some; KFP=kind or KFP=URL trains there
	@SLIPWAY_KFP="$(KFP)" $(PY) -m pytest $(PYTEST_ARGS) e2e/journeys $(if $(JOURNEYS),-k "$(JOURNEYS)")

demo: setup ## The flights story in four acts on the local cluster
	@$(PY) -m slipway_demo.main

BENCH ?=
bench: setup ## Measure; writes benchmarks/results and docs/benchmarks.md; BENCH="reaction rollouts" for some parts
	@PYTHONPATH=operator/tests $(PY) -m benchmarks.run $(BENCH)

clean: ## Remove the cluster and everything built; CACHES=1 removes binaries and image layers too
	@if [ -x $(PY) ]; then $(PY) -m slipway_cluster.clean $(if $(CACHES),--caches); fi
	@rm -rf .venv .venv-runner .stock-servers $(TOOLS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
