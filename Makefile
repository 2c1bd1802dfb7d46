# make demo, make test: both make .venv first, from uv.lock. `make help` lists the rest.
BIN := .venv/bin
export UV_LINK_MODE := copy
# where this is set, as in many containers and CIs, every start would compile every module again
unexport PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1
# a laboratory's network may have a certificate authority of its own; the system knows it
export UV_SYSTEM_CERTS := 1

# a process for each core; tests that share a running system or a trained model stay together (tests/conftest.py)
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# programs that the tests meet, in Node: an OpenID provider, and receivers of results; and dbt, in an environment of its own
FOREIGN := $(patsubst %,tests/%/node_modules/.package-lock.json,review/openid exchange/receivers) .venv/dbt/installed

.DEFAULT_GOAL := help
.PHONY: help demo demo-retrain up test test-fast coverage check format docs bench models paper release clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## See everything work: a drawn night, the shipped models, a real Airflow run, differentials
	@$(BIN)/bloodcell demo

demo-retrain: .venv/installed ## The same, then labels, a retraining, your approval, and a new champion
	@$(BIN)/bloodcell demo --retrain

up: .venv/installed ## Start Postgres, Airflow and the watcher; Ctrl-C stops all of it
	@$(BIN)/bloodcell up

test: .venv/installed $(FOREIGN) ## Run all tests, on a real Postgres and a real Airflow
	$(PYTEST)

test-fast: .venv/installed $(FOREIGN) ## Run the tests that start no Airflow and train no model: three minutes on two cores
	$(PYTEST) -m "not (airflow or fleet or slow or training)"

coverage: .venv/installed $(FOREIGN) ## Run all tests and report which lines no test runs
	$(PYTEST) --cov --cov-report=term

check: .venv/installed ## Formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed ## Format the code and fix what lint can fix
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: .venv/installed ## Build the documentation into site/; a broken link or a missing description is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: .venv/installed ## Measure speed and memory as ratios; writes benchmarks/speed/RESULTS.md
	$(BIN)/python -m benchmarks.speed

models: .venv/installed ## Train the shipped models again on IMAGES=FOLDER; takes hours on two cores, and resumes if interrupted
	@test -d "$(IMAGES)" || { echo "Name the folder of images: make models IMAGES=FOLDER (FOLDER/<class>/*.jpg)"; exit 1; }
	$(BIN)/python -m benchmarks.accuracy.models "$(IMAGES)"

paper: .venv/installed ## Measure the shipped models on the part of IMAGES=FOLDER they never saw; writes benchmarks/accuracy/RESULTS.md
	@test -d "$(IMAGES)" || { echo "Name the folder of images: make paper IMAGES=FOLDER (FOLDER/<class>/*.jpg)"; exit 1; }
	$(BIN)/python -m benchmarks.accuracy "$(IMAGES)"

release: .venv/installed ## Build wheel and sdist into dist/, from a committed tree whose version the changelog describes
	@test -z "$$(git status --porcelain)" || { echo "Commit or remove first:"; git status --short; exit 1; }
	@version=$$($(BIN)/uv version --short); grep -q "^## \[$$version\]" CHANGELOG.md \
		|| { echo "CHANGELOG.md has no section for version $$version (pyproject.toml)"; exit 1; }
	rm -rf dist
	$(BIN)/uv export --quiet --frozen --only-group build --no-emit-project --output-file .venv/build.txt
	$(BIN)/uv build --build-constraints .venv/build.txt --require-hashes

clean: ## Remove .venv and caches (never data)
	rm -rf .venv site .coverage .pytest_cache .mypy_cache .ruff_cache

.venv/installed: pyproject.toml uv.lock
	@command -v python3 >/dev/null || { echo "python3 (3.11 or 3.12) is needed"; exit 1; }
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "python3 has to be 3.11 or 3.12, is: $$(python3 --version)"; exit 1; }
	@test -x $(BIN)/python || python3 -m venv .venv \
		|| { rm -rf .venv; echo "python3 cannot make .venv; on Debian install python3-venv"; exit 1; }
	@test -x $(BIN)/uv || { echo "Installing uv"; $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r docker/uv.txt; }
	@echo "Installing the packages of uv.lock into .venv (2.5 GB, a minute or two)"
	@$(BIN)/uv sync --quiet --frozen --inexact --python $(BIN)/python
	@touch $@

.venv/dbt/installed: sql/dbt/requirements.txt | .venv/installed
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	@$(BIN)/uv pip install --quiet --no-config --python $(@D) --only-binary :all: --require-hashes --requirements $<
	@touch $@

tests/%/node_modules/.package-lock.json: tests/%/package-lock.json
	@command -v npm >/dev/null && npm ci --prefix $(<D) --no-audit --no-fund --ignore-scripts --loglevel=error \
		|| echo "Tests that meet the programs of $(<D) will be skipped: they need Node 20 and npm"
