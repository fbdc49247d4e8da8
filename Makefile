# make lab   sets everything up, runs the three exercises, writes the lab report
# make test  sets everything up, passes the tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: lab test check clean

lab: $(VENV)/ready
	$(BIN)/python search_single.py
	$(BIN)/python search_hidden.py
	$(BIN)/python search_multiclass.py
	$(BIN)/python -m search report

test: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV)
