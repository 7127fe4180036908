# One command sets everything up and does the work; see 'make help' and docs/install.md.

PYTHON ?= python3
BIN := .venv/bin
# HyperSpy is GPL and large, and nothing of hotstage needs it: it lives beside
HYPERSPY := .venv-hyperspy
RECIPE := examples/recipes/first_light.yaml
# more words for pytest: make test ARGS="tests/store -k recover"; ARGS="-n 0" runs them one by one
ARGS ?=
# as many as tests/conftest.py says; every worker records runs of its own, so that more gain little
WORKERS := -n auto --maxprocesses 8 --dist worksteal
# hundreds of processes are started: each would compile its modules where none are kept, and wake
# threads for products of small matrices that cost more than they save where all cores are taken
TESTS_IN := PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 QT_QPA_PLATFORM=offscreen

.PHONY: help demo test test-hyperspy bench-hyperspy check format lint types contracts lock-in-step gui screenshots lock clean setup setup-dev
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' Makefile

demo: setup ## install everything, run an experiment on simulators, show and plot it
	@echo "compiling the loops of the estimators: a minute or two, once on a machine"
	@$(BIN)/python -m acquire.measure.warm
	@run=out/first_light; n=2; \
	while [ -e "$$run" ]; do run=out/first_light-$$n; n=$$((n + 1)); done; \
	$(BIN)/hotstage run $(RECIPE) -o "$$run" && \
	$(BIN)/hotstage show "$$run" && \
	$(BIN)/hotstage plot "$$run"

test: setup-dev ## install everything and pass all tests
	@# once, which takes up to a minute, and not in every worker at the same time
	$(TESTS_IN) $(BIN)/python -m acquire.measure.warm
	$(TESTS_IN) $(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-hyperspy: setup-dev $(HYPERSPY)/.installed ## have the real HyperSpy open what is exported
	HOTSTAGE_HYPERSPY_PYTHON=$(abspath $(HYPERSPY)/bin/python) $(TESTS_IN) $(BIN)/python -m pytest -n 0 $(ARGS) tests/export/test_hyperspy.py

bench-hyperspy: setup-dev $(HYPERSPY)/.installed ## hotstage bench eels --check, with HyperSpy beside it
	$(HYPERSPY)/bin/hotstage bench eels --check $(ARGS)

check: format lint types contracts lock-in-step ## formatting, lint, types, import contracts, lock

format: setup-dev
	$(BIN)/ruff format --check .

lint: setup-dev
	$(BIN)/ruff check .

types: setup-dev
	$(BIN)/mypy
	$(BIN)/mypy hotstage.py tools/*.py

contracts: setup-dev
	$(BIN)/lint-imports

lock-in-step: setup-dev
	$(BIN)/python tools/lock.py --check

gui: setup ## open the operator window
	$(BIN)/hotstage gui

screenshots: setup ## pictures of the window's main states into out/screenshots, the good ones into docs/images
	$(BIN)/python -m gui.pictures out/screenshots --docs docs/images $(ARGS)

lock: ## write the lock files anew from pyproject.toml (UPGRADE=1: newest versions)
	$(PYTHON) tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove .venv, caches and build output; runs in out/ stay
	rm -rf .venv $(HYPERSPY) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find acquire drivers gui simulators tests tools examples -name __pycache__ -prune -exec rm -rf {} +

# of the Python that .venv has; as bootstrap installs it: locked, with the checkout in place
$(HYPERSPY)/.installed: requirements-hyperspy.lock pyproject.toml | setup-dev
	@echo "Installing requirements-hyperspy.lock into $(HYPERSPY) (a minute or two the first time)"
	@$(BIN)/python -m venv --clear $(HYPERSPY)
	@$(HYPERSPY)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --only-binary=:all: -r requirements-hyperspy.lock
	@$(HYPERSPY)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup:
	@$(PYTHON) tools/bootstrap.py run

setup-dev:
	@$(PYTHON) tools/bootstrap.py dev
