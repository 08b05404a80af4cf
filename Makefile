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

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else 0'
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing ImageSearch and what it needs into $(VENV); the first time takes minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
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
