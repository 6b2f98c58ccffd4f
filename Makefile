# Both commands make their own environment in .venv first; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo

# Byte code is made of what is used, once; where a machine forbids it, each process of the tests would compile PyTorch anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test tests check lists clean

demo: $(VENV)/installed
	$(BIN)/dinomix demo --out $(DEMO)

# The type checker has one core only, so it runs beside the tests; what it says is told after theirs, where it is seen.
test: $(VENV)/installed
	@said=$$(mktemp); $(MAKE) check > $$said 2>&1 & checking=$$!; \
	$(MAKE) tests; tests=$$?; \
	wait $$checking; checks=$$?; \
	cat $$said; rm $$said; exit $$((tests + checks))

# One more than CI's two cores: tests of windows wait for processes of theirs, and for time to pass, half of the time.
tests: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal --durations=30 --durations-min=4

check: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable '.[test]'
	touch $@

lists:
	$(PYTHON) Testing/packaging/list_files.py

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
