# make demo | test | test-slow | bench: each makes .venv if it is missing, installs what it needs, and runs.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-slow bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/jxai explain --out build/demo --lime.segments slic:60

test: $(VENV)/.test
	$(PYTEST) -n 2 -q

test-slow: $(VENV)/.test
	$(PYTEST) -q -m slow

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/attribution.py

clean:
	rm -rf build dist $(VENV)

# One stamp for each extra: a second run installs nothing, a change of the requirements installs again.
$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]' --constraint constraints.txt
	touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "jxai needs Python 3.11 or later on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
