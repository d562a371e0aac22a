# make install | demo | test | test-all | wheel | docs | licences | lint | format | clean
# Each target makes .venv when it is missing and installs what it needs; a second call is instant.
# Another interpreter:  make install PYTHON=python3.12
# Other pytest options: make test PYTEST_FLAGS="-k volume"
# Paths stay relative, so that the folder's own path may hold spaces.

PYTHON ?= python3
PYTEST_FLAGS ?= -n auto --maxprocesses 4 --dist loadfile
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all wheel docs licences lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

install: $(STAMP) ## make .venv and install syndiff in it with the tested versions

demo: $(STAMP) ## virtual cohort, preparation, training, translation, report: in demo/
	$(BIN)/syndiff demo demo

test: $(STAMP) ## the fast tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-all: $(STAMP) ## the slow tests, too; those for a GPU are left out
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not gpu"

wheel: $(STAMP) ## sdist, and from it the wheel, in dist/; translate with it in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python .ci/wheel.py dist

docs: $(STAMP) ## the site of the documents in site/; a link that leads nowhere is an error
	$(BIN)/python -m mkdocs build --quiet

licences: $(STAMP) ## list the licences of all dependencies in THIRD_PARTY.md
	$(BIN)/python .ci/licences.py > THIRD_PARTY.md.new
	mv THIRD_PARTY.md.new THIRD_PARTY.md

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the targets made, except .venv
	rm -rf demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An unfinished .venv (no pip in it) is made anew.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "syndiff needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	    "name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "making .venv"; \
	  $(PYTHON) -m venv --clear .venv; }
	@echo "installing syndiff and what it needs into .venv (once, a few minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
