# Two commands do everything: `make demo` shows the program at work, `make test` checks it.
# Both create .venv and install into it first, and both can be run again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test format clean

help:
	@echo "make demo     install, index sample photographs, search and classify, write pictures of the results"
	@echo "make test     install, then lint, check types and run all tests"
	@echo "make install  create $(VENV) with the program and its development tools"
	@echo "make format   let ruff format the code"
	@echo "make clean    remove $(VENV), demo/ and caches"

install: $(VENV)/.installed

# Files that tell make what is installed: for the demo, or also to develop.
DEMO := $(VENV)/.installed-demo
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else 0'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing ImageSearch and what it takes to develop it into $(VENV); the first time takes minutes"
	@$(PIP_INSTALL) '.[dev]'
	@touch $@ $(DEMO)

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing ImageSearch and what it needs into $(VENV); the first time takes minutes"
	@$(PIP_INSTALL) '.[demo]'
	@touch $@

demo: $(DEMO)
	@$(BIN)/imagesearch demo --folder demo

test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
