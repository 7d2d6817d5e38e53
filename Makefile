# make demo: the whole line on real handwritten digits.  make test: the tests.  make fuzz: all settings.  make faults: thirty kills.  make docs: the site.  make results: tables of the pages from results/.  Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz faults check bench docs results

demo: .venv/ready
	$(BIN)/python run.py

test: .venv/ready
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

fuzz: .venv/ready
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 tests/fuzz_all.py

faults: .venv/ready
	$(BIN)/python -m pytest -q tests/kill_all.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python benchmarks/speed.py

results: .venv/ready
	$(BIN)/python benchmarks/results.py

# A broken link, or a name that the reference asks for and the code has not, fails; --quiet would leave warnings uncounted.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# torch and torchvision are asked for in one request, so that both come from one index.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch torchvision --editable '.[dev,slurm,ray]'
	touch $@
