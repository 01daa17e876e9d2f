# make demo, make test: everything else is fetched or built into a cache folder.
.DEFAULT_GOAL := help
.PHONY: help setup up down status env demo test check unit e2e kind-image crds bench chaos

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stint
UV := $(shell command -v uv 2>/dev/null || echo $(CACHE)/uv/bin/uv)
PURE := tests/unit tests/property tests/golden tests/shell
PY := PYTHONPATH=.:operator .venv/bin/python

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(CACHE)/uv/bin/uv:
	@echo "  fetching uv ..." >&2
	@python3 -m venv $(CACHE)/uv && $(CACHE)/uv/bin/pip install --quiet uv

.venv/.synced: uv.lock pyproject.toml | $(UV)
	@echo "  setting up .venv ..." >&2
	@$(UV) sync --frozen --quiet && touch $@

setup: .venv/.synced ## the Python environment, in .venv

up: setup ## a cluster with Stint and a sample fleet; CLUSTER=embedded|kind|current, K8S=1.36.3
	@$(PY) -m hack.cluster up

down: setup ## stop all of it
	@$(PY) -m hack.cluster down

status: setup ## what runs
	@$(PY) -m hack.cluster status

env: setup ## what a shell needs to speak to it: eval "$$(make -s env)"
	@$(PY) -m hack.cluster env

demo: setup ## the whole story in a minute or two
	@$(PY) -m hack.demo

check: setup ## linters, types, the contracts between floors
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	MYPYPATH=operator .venv/bin/mypy --follow-imports=silent -p hack
	.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

unit: setup ## the tests that need no cluster
	$(PY) -m pytest -q -n 2 $(PURE)

e2e: setup ## the tests on a real control plane; CLUSTER=embedded|kind, K8S=1.36.3; POD_GROUPS=1 with 1.37.2
	$(PY) -m pytest -q tests/e2e

kind-image: setup ## the image of a kind node, where none can be pulled
	@$(PY) -m hack.kind image

test: check ## everything; the tests on kind where there are root or Docker
	$(PY) -m pytest -q -n 2 $(PURE)
	CLUSTER=embedded $(PY) -m pytest -q tests/e2e
	@$(PY) -m hack.kind test

crds: setup ## write crds/, the dashboard, the table of rights, the chart's gate, docs/lifecycle.md and the threat model
	$(PY) -m hack.gen_crds && $(PY) -m hack.gen_dashboard && $(PY) -m hack.gen_rights && $(PY) -m hack.gen_gate
	$(PY) -m hack.gen_lifecycle && $(PY) -m hack.gen_threats

chaos: setup ## the operator killed KILLS=1000 times at its writes
	$(PY) -m hack.faults.chaos --kills $(or $(KILLS),1000)

bench: setup ## every benchmark
	$(PY) -m hack.bench all
