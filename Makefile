# Short recipes; each starts from a fresh clone. uv is found or bootstrapped into .uv, never into the system's Python.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
RUN := $(UV) run --frozen --no-sync
ARGS ?=
SEEDS ?= 200

.PHONY: demo run test simulate e2e soak check bench bench-peers format

.venv/.synced: uv.lock pyproject.toml $(wildcard packages/*/pyproject.toml apps/*/pyproject.toml)
	@[ -x "$(UV)" ] || command -v "$(UV)" >/dev/null || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install -q uv; }
	@$(UV) sync --frozen --quiet
	@touch $@

demo: .venv/.synced
	@$(RUN) ordersync demo $(ARGS)

run: .venv/.synced
	@$(RUN) ordersync up $(ARGS)

test: .venv/.synced
	@$(RUN) pytest -n 2 -m "not e2e and not soak" $(ARGS)

simulate: .venv/.synced
	@$(RUN) python -m ordersync_core.testing.simulation --seeds $(SEEDS) $(ARGS)

e2e: .venv/.synced
	@$(RUN) pytest -n 2 -m e2e --timeout 600 $(ARGS)

soak: .venv/.synced
	@$(RUN) pytest -m soak $(ARGS) tests/soak

check: .venv/.synced
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) deptry .
	@for project in packages/* apps/*; do $(RUN) deptry --config $$project/pyproject.toml $$project || exit 1; done

bench: .venv/.synced
	@for database in sqlite postgres; do for name in catalogue_sync unneeded_writes; do \
		$(RUN) python -m bench.$$name --database $$database || exit 1; done; done
	@$(RUN) python -m bench.memory
	@$(RUN) python -m bench.contention
	@$(RUN) python -m bench.scheduling
	@for database in sqlite postgres; do for name in events_queue depth webhooks first_attempt isolation flood; do \
		$(RUN) python -m bench.$$name --database $$database || exit 1; done; done

bench-peers: .venv/.synced
	@$(UV) sync --frozen --inexact --quiet --group bench-peers
	@for database in sqlite postgres; do for name in catalogue_sync events_queue webhooks; do \
		$(RUN) python -m bench.$$name --peers --database $$database || exit 1; done; done

format: .venv/.synced
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .
