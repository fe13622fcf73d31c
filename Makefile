# Every target sets up what it needs: a .venv from uv.lock, and, where a cluster runs, the one-time build of the
# control plane. Nothing outside this folder and the user's cache folder changes.
.DEFAULT_GOAL := help
.PHONY: help setup controlplane demo test check format generate e2e bench bench-live chaos soak search mutants clean
SHELL := /bin/sh
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
JOBS ?= 2
ROUNDS ?= 10
# Programs are started hundreds of times; without byte code on disk each would compile all it loads, which is half of it.
unexport PYTHONDONTWRITEBYTECODE
# Of what ARGS names, one of two runs may have nothing: pytest says so by 5.
OR_NONE := || [ $$? -eq 5 ]

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	 || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

setup: ## make .venv from the lock file
	@scripts/bootstrap

controlplane: setup ## build the local control plane and helm (once; minutes, then seconds)
	@$(BIN)/python -m allotment_local.build

demo: controlplane ## a bank's shared cluster at work, on this machine
	@$(BIN)/allot demo $(ARGS)

# Real nodes come after everything else and alone: their tests compare the whole machine before and after.
test: controlplane ## every test, on JOBS workers (2); real nodes only where ALLOT_REAL_NODE=1
	@$(PYTEST) -m "not soak and not real_node" -n $(JOBS) --dist loadscope --no-loadscope-reorder $(ARGS) $(OR_NONE)
	@$(PYTEST) -m "real_node and not soak" $(ARGS) $(OR_NONE)

check: setup ## lint, types, import layers, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests
	@$(BIN)/lint-imports
	@$(BIN)/python -m allotment_api.generate --check

format: setup ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

generate: setup ## write crds/ and docs/reference from the models
	@$(BIN)/python -m allotment_api.generate

e2e: controlplane ## only the tests on a real API server
	@$(PYTEST) -m cluster $(ARGS)

bench: setup ## benchmarks of the engine and the client; figures also in build/
	@mkdir -p build
	@$(BIN)/python tests/benchmarks/bench_kube_client.py
	@$(BIN)/python tests/benchmarks/bench_engine.py $(ARGS)

bench-live: controlplane ## the live scheduler beside kube-scheduler, on a local cluster; most of an hour
	@mkdir -p build
	@$(BIN)/python tests/benchmarks/bench_live.py $(ARGS)

chaos: controlplane ## the scheduler under faults of network, machines and control plane; minutes
	@$(PYTEST) -s -m soak tests/scheduler_live/test_chaos.py $(ARGS)

soak: controlplane ## the long versions of the tests
	@$(PYTEST) -m soak --hypothesis-profile=search $(ARGS)

# What a round finds is kept, and tried first in the next run.
search: setup ## properties on new random examples, ROUNDS times (10); make test draws the same ones each time
	@for round in $$(seq $(ROUNDS)); do \
	  $(PYTEST) -q -m "hypothesis and not soak and not real_node" --hypothesis-profile=search $(ARGS) || exit; done

mutants: setup ## change the scheduling core one place at a time: does a test notice?
	@$(BIN)/python tests/mutation/mutate.py $(ARGS)

clean: ## remove what make made in this folder
	rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
