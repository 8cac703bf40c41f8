# Only make and python3 (3.11 or later) are assumed; scripts/bootstrap.py brings the rest. `make help` lists the commands.
PYTHON ?= python3
IN = $(PYTHON) scripts/bootstrap.py
PAGE = $(PYTHON) scripts/frontend.py
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run chat eval test e2e check fmt docs bench frontend migration clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: frontend ## Serve on 127.0.0.1:8000 with embedded stores and the simulator (PORT=8080 changes the port)
	@$(IN) outcrop serve

chat: ## Talk to it in the terminal (ARGS="--as c2")
	@$(IN) outcrop chat $(ARGS)

eval: ## Run scenario files (FILES="tests/scenarios/*.yaml", ARGS="--min 0.85")
	@$(IN) outcrop eval $(ARGS) $(or $(FILES),$(wildcard tests/scenarios/*.yaml))

test: frontend ## Run all tests, on real stores, without any network (ARGS="-k name")
	@$(PAGE) test
	@$(IN) pytest -n $(WORKERS) $(ARGS)

e2e: frontend ## Run the browser tests alone
	@$(IN) pytest -n 0 tests/e2e $(ARGS)

check: ## Lint, format, types, import rules, for Python and the page
	@$(IN) ruff check .
	@$(IN) ruff format --check .
	@$(IN) mypy
	@$(IN) mypy scripts/*.py tests
	@$(IN) lint-imports
	@$(PAGE) lint typecheck

fmt: ## Format and fix what can be fixed
	@$(IN) ruff format .
	@$(IN) ruff check --fix .

docs: ## Write the pages of the action groups into docs/actions
	@$(IN) outcrop tools docs --out docs/actions

bench: ## Measure tool calls beside boto3, model calls beside bare ones, knowledge bases, and a turn beside two bare apps (ARGS="--quick", ARGS="--json figures.json")
	@$(IN) python -m tests.load.bench_tools $(ARGS)
	@$(IN) python -m tests.load.bench_models $(ARGS)
	@$(IN) python -m tests.load.bench_routes $(ARGS)
	@$(IN) python -m tests.load.bench_knowledge $(ARGS)
	@$(IN) python -m tests.load.bench $(ARGS)

frontend: ## Build the page into backend/static when its sources changed
	@$(PAGE) build

migration: ## Write an empty migration (NAME="add notes")
	@$(IN) python scripts/migration.py "$(NAME)"

clean: ## Remove what was built; data in .outcrop and the tools in .venv and .uv stay
	rm -rf backend/static frontend/dist frontend/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.uv/*' -prune -exec rm -rf {} +
