# Everything goes through uv and the committed lock. `make` needs git, make and Python 3.11 or newer; it brings uv itself
# when there is none. Arguments are passed on: make test ARGS="-k budget", make demo ARGS=--once.

.DEFAULT_GOAL := help
ARGS ?=
# Processes that share the tests, file by file.
WORKERS ?= auto
PYTHON ?= python3
TOOLS := .tools

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# On machines where home is not writable the caches stay in the project as well.
export UV_LINK_MODE ?= copy
export PATH := $(CURDIR)/$(TOOLS)/usr/bin:$(PATH)

.PHONY: help demo test test-versions test-exporters prove-kills prove-outage prove-alerts prove-mutants lint format bench bench-handler bench-ingest bench-ingest-growth bench-forward bench-reads bench-budgets bench-guard bench-prices bench-settling bench-two dashboards rules tools stack-check pictures compose clean sync

help: ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv into the project's own folder: a virtual environment where Python can make one, else pip's --target.
.uv/bin/uv:
	@echo "uv is missing: installing it into .uv/"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 …" >&2; exit 1; }
	@($(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install --quiet uv) \
	  || { rm -rf .uv; $(PYTHON) -m pip install --quiet --target .uv uv; }
	@test -x .uv/bin/uv || { echo "could not install uv: see https://docs.astral.sh/uv/getting-started/installation/" >&2; exit 1; }

sync: $(filter .uv/bin/uv,$(UV)) ## Create or update the environment from the lock
	@$(UV) sync --frozen --all-extras --quiet

# The demo needs nothing of what development needs; --inexact leaves an environment alone that has it.
demo: $(filter .uv/bin/uv,$(UV)) ## Start a collector, run the example graphs through it, show what was measured
	@$(UV) sync --frozen --all-extras --no-dev --inexact --quiet
	@$(UV) run --no-sync graphmeter demo $(ARGS)

# With bytecode, whatever the environment says: the tests start hundreds of processes, each of which would compile it all again.
test: sync tools ## Run the tests
	@env -u PYTHONDONTWRITEBYTECODE $(UV) run --frozen --all-extras pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-versions: sync ## Run the client's tests on the oldest LangGraph that is supported and on newer Pythons
	@UV=$(UV) .ci/versions $(ARGS)

test-exporters: sync ## Run OpenTelemetry's own exporters (Python, JavaScript, Go, Java) against a collector
	@$(UV) run --frozen --all-extras pytest tests/exporters/check_exporters.py $(ARGS)

prove-kills: sync ## Kill collector and Postgres twenty times under load: nothing acknowledged is lost, nothing counted twice
	@KILLS=$${KILLS:-20} $(UV) run --frozen --all-extras pytest tests/acceptance/test_kills.py $(ARGS)

prove-outage: sync ## A backend that is away for an hour: every span arrives exactly once, memory stays flat (ARGS=--real-time: takes the hour)
	@$(UV) run --no-sync python benchmarks/prove_outage.py $(ARGS)

prove-alerts: sync tools ## A failing node pages somebody, silences its tickets and is over when it is; spend reaches a budget (a minute)
	@$(UV) run --frozen --all-extras pytest tests/acceptance/check_alerting.py $(ARGS)

prove-mutants: sync tools ## Change every alert of thresholds, budgets, their speed and providers' limits by rote: unit tests notice (a minute)
	@$(UV) run --frozen --all-extras pytest tests/alerts/check_mutants.py $(ARGS)

lint: sync ## Check style, types and who imports whom
	@$(UV) run --frozen --all-extras ruff check .
	@$(UV) run --frozen --all-extras ruff format --check .
	@$(UV) run --frozen --all-extras mypy
	@$(UV) run --frozen --all-extras lint-imports

format: sync ## Format the code
	@$(UV) run --frozen --all-extras ruff format .
	@$(UV) run --frozen --all-extras ruff check --fix .

bench-handler: $(filter .uv/bin/uv,$(UV)) ## Compare the handler's cost with none, with a handler that does nothing, and with its peers
	@$(UV) sync --frozen --all-extras --group peers --quiet
	@$(UV) run --no-sync python benchmarks/bench_handler.py $(ARGS)

bench-ingest: sync ## Measure storing spans: rate, ratio to raw rows, latencies, CPU by process and by stage, memory
	@$(UV) run --no-sync python benchmarks/bench_ingest.py $(ARGS)
	@$(UV) run --no-sync python benchmarks/bench_ingest_stages.py

bench-ingest-growth: sync ## The cost of a span as tables grow to ten million spans (takes half an hour per database)
	@$(UV) run --no-sync python benchmarks/bench_ingest.py --grow 10000000 $(ARGS)

bench-forward: sync ## Measure forwarding: spans per second, CPU of collector and database per span, memory
	@$(UV) run --no-sync python benchmarks/bench_forward.py $(ARGS)

bench-reads: sync ## How long reports and filters take with thirty days and ten million spans stored (half an hour per database)
	@$(UV) run --no-sync python benchmarks/bench_reads.py $(ARGS)

bench-budgets: sync ## What the state of budgets takes, with a long ledger (ARGS="postgresql://… --calls 10000000", an empty database)
	@$(UV) run --no-sync python benchmarks/bench_budgets.py $(ARGS)

bench-guard: sync ## What a budget guard costs per model call, in synchronous and asynchronous graphs
	@$(UV) run --no-sync python benchmarks/bench_guard.py $(ARGS)

bench-prices: sync ## What the price of a call costs, for each kind of price, and when the ledger is priced again
	@$(UV) run --no-sync python benchmarks/bench_prices.py $(ARGS)

bench-settling: sync ## Measure spans of other instrumentations beside our own (ARGS="--stored 1000000": in large tables, with plans)
	@$(UV) run --no-sync python benchmarks/bench_settling.py $(ARGS)

bench-two: sync ## Measure one collector and two on one Postgres, with halves of every trace to each
	@$(UV) run --no-sync python benchmarks/bench_two.py $(ARGS)

bench: sync ## Run the benchmarks but the long ones (prints figures, asserts nothing)
	@for file in $(filter-out benchmarks/bench_reads.py,$(wildcard benchmarks/bench_*.py)); do echo "== $$file"; $(UV) run --frozen --all-extras python $$file $(ARGS) || exit 1; done

dashboards: sync ## Regenerate dashboards/generated
	@$(UV) run --frozen --all-extras graphmeter dashboards build --defaults --out dashboards/generated $(ARGS)

rules: sync ## Regenerate alerts/generated
	@$(UV) run --frozen --all-extras graphmeter rules build --defaults --out alerts/generated $(ARGS)

tools: $(filter .uv/bin/uv,$(UV)) ## Find promtool, Prometheus and Alertmanager, or fetch them into .tools/ (no root needed); Helm and its like, too
	@UV=$(UV) deploy/get-tools $(TOOLS)

stack-check: sync tools ## Check everything that is deployed: Compose, image, chart, manifests, rules, routes, dashboards and their queries
	@PATH="$(CURDIR)/$(TOOLS)/usr/bin:$$PATH" UV=$(UV) deploy/check $(ARGS)

pictures: sync tools ## Take the README's pictures again, of real pages with Chromium (five minutes)
	@$(UV) run --no-sync python docs/images/take.py $(ARGS)

compose: sync ## Bring up the whole stack with Docker Compose; writes random secrets into .env once
	@$(UV) run --frozen --all-extras python deploy/env.py
	docker compose up --build --wait $(ARGS)

clean: ## Remove the environment and caches
	rm -rf .venv .uv $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
