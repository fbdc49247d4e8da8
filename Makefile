# make lab   sets everything up, runs the three exercises, writes the lab report
# make test  sets everything up, passes the tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests run side by side, a process a core; one that is done takes tests from another.
SIDE_BY_SIDE := --numprocesses auto --dist worksteal
# Which tests `make test` runs; continuous integration runs `make test MARKS="not slow"`.
MARKS ?= not slow and not long

.PHONY: lab test slow check compat clean

lab: $(VENV)/ready
	$(BIN)/python search_single.py
	$(BIN)/python search_hidden.py
	$(BIN)/python search_multiclass.py
	$(BIN)/python -m search report

test: $(VENV)/ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "$(MARKS)"

slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE)

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The short suite on the oldest and the newest TensorFlow, Keras and Python that setup.cfg allows.
compat:
	$(PYTHON) benchmarks/compat.py

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,cluster]"
	touch $@

clean:
	rm -rf $(VENV)
