# Short recipes; each starts from a fresh clone. uv is found or bootstrapped into .uv, never into the system's Python.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
RUN := $(UV) run --frozen --no-sync
ARGS ?=
SEEDS ?= 200

.PHONY: demo run test simulate e2e check bench format

.venv/.synced: uv.lock pyproject.toml $(wildcard packages/*/pyproject.toml apps/*/pyproject.toml)
	@[ -x "$(UV)" ] || command -v "$(UV)" >/dev/null || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install -q uv; }
	@$(UV) sync --frozen --quiet
	@touch $@

demo: .venv/.synced
	@$(RUN) ordersync demo $(ARGS)

run: .venv/.synced
	@$(RUN) ordersync up $(ARGS)

test: .venv/.synced
	@$(RUN) pytest -n 2 -m "not e2e" $(ARGS)

simulate: .venv/.synced
	@$(RUN) python -m ordersync_core.testing.simulation --seeds $(SEEDS) $(ARGS)

e2e: .venv/.synced
	@$(RUN) pytest -n 2 -m e2e --timeout 600 $(ARGS)

check: .venv/.synced
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) deptry .
	@for project in packages/* apps/*; do $(RUN) deptry --config $$project/pyproject.toml $$project || exit 1; done

bench: .venv/.synced
	@$(RUN) python bench/catalogue_sync.py $(ARGS)
	@$(RUN) python -m bench.scheduling

format: .venv/.synced
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .
