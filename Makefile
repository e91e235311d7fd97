# Everything from a fresh clone: python3 (3.11 or later, with venv) and make are enough, the rest goes into $(VENV).
# Stamp files inside the virtual environment remember what is installed; they go stale with setup.cfg and pyproject.toml.

PYTHON ?= python3
VENV ?= .venv
LLAMA_VENV ?= .venv-llama
ARGS ?=

BIN := $(VENV)/bin
LLAMA_BIN := $(LLAMA_VENV)/bin
PIP_FLAGS := --disable-pip-version-check -qq
METADATA := setup.cfg pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint docs test-llama test-clients soak bench bench-quick bench-cache bench-memory budget clean check-python

help: ## this list
	@echo "make TARGET [PYTHON=python3] [ARGS='more arguments for pytest, txsse demo or benchmarks/run.py']"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.txsse ## the proxy before a sleeping fake model: what a client sees, live (about 20 s)
	@$(BIN)/txsse demo $(ARGS)

test: $(VENV)/.txsse-test ## the tests
	@$(BIN)/python -m tests.halves $(ARGS)

lint: $(VENV)/.txsse-lint ## ruff and mypy
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

docs: $(VENV)/.txsse-docs ## the documentation, into docs/_build/html
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test-llama: $(LLAMA_VENV)/.txsse-llama ## the proxy before a real llama.cpp server (builds it first: minutes)
	@$(LLAMA_BIN)/python -m pytest tests/llama $(ARGS)

test-clients: $(VENV)/.txsse-test ## the proxy before the clients people use (installs them first: about a minute)
	@PYTHON=$(PYTHON) tests/clients/setup.sh
	@$(BIN)/python -m pytest tests/clients $(ARGS)

soak: $(VENV)/.txsse-test ## a thousand streams on three nodes that are killed in turn (needs redis-server; about 5 minutes)
	@$(BIN)/python -m tests.soak $(ARGS)

bench: $(VENV)/.txsse ## the benchmarks: all peers that can be had, into docs/ (about 12 minutes)
	@PYTHON=$(PYTHON) benchmarks/setup.sh
	@$(BIN)/python benchmarks/run.py --docs docs $(ARGS)

bench-quick: $(VENV)/.txsse ## nginx, HAProxy, Go and txsse only, to the terminal (about 2 minutes)
	@PYTHON=$(PYTHON) benchmarks/setup.sh quick
	@$(BIN)/python benchmarks/run.py --quick $(ARGS)

budget: $(VENV)/.txsse-test ## count anew what an event and a request cost, and record it in tests/budget
	@$(BIN)/python -m tests.budget

bench-memory: $(VENV)/.txsse ## what each part adds to the memory of an idle proxy, into docs/ (about a minute)
	@$(BIN)/python benchmarks/memory.py --docs docs $(ARGS)

bench-cache: $(VENV)/.txsse ## what the cache costs, beside LiteLLM's, into docs/ (about 6 minutes)
	@PYTHON=$(PYTHON) benchmarks/setup.sh
	@$(BIN)/python benchmarks/cache.py --docs docs $(ARGS)

clean: ## remove what was built; .venv-llama, .venv-clients* and the benchmarks' peers stay, they take minutes
	rm -rf $(VENV) benchmarks/build build dist txsse.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path './.git' -prune -o -path './$(LLAMA_VENV)' -prune -o -name __pycache__ -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

check-python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "error: '$(PYTHON)' is not installed: apt-get install python3 python3-venv, or name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: txsse needs Python 3.11 or later, '$(PYTHON)' is $$($(PYTHON) -V 2>&1): name a newer one: make PYTHON=python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "error: '$(PYTHON)' cannot make virtual environments (no venv or ensurepip): apt-get install python3-venv" >&2; \
		exit 1; }

# "--clear": an environment whose interpreter has gone is made anew, with its stamps.
$(BIN)/python $(LLAMA_BIN)/python:
	@$(MAKE) --no-print-directory check-python
	@echo "making $(@:/bin/python=) .."
	@$(PYTHON) -m venv --clear $(@:/bin/python=)

$(VENV)/.txsse: $(METADATA) | $(BIN)/python
	@echo "installing txsse .."
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

$(VENV)/.txsse-test: $(VENV)/.txsse
	@echo "installing what the tests need .."
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[test]'
	@touch $@

# mypy reads the tests too, so it needs what they import.
$(VENV)/.txsse-lint: $(VENV)/.txsse-test
	@echo "installing ruff and mypy .."
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[lint]'
	@touch $@

$(VENV)/.txsse-docs: $(VENV)/.txsse
	@echo "installing sphinx .."
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[docs]'
	@touch $@

$(LLAMA_VENV)/.txsse-llama: $(METADATA) | $(LLAMA_BIN)/python
	@for tool in cc c++; do command -v $$tool >/dev/null || { \
		echo "error: llama.cpp is built from source and '$$tool' is missing: apt-get install build-essential" >&2; exit 1; }; done
	@echo "building and installing llama-cpp-python: about 5 minutes on 2 cores .."
	@$(LLAMA_BIN)/python -m pip install $(PIP_FLAGS) -e '.[test,llama]'
	@touch $@
