# make demo: the whole line on real handwritten digits.  make test: the tests.  make fuzz: all settings.  make faults: thirty kills.  make golden: each method's accuracy on digits.  make docs: the site.  make tutorials: its pages from tutorials/.  make results: tables of the pages from results/.  Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz faults golden check bench docs tutorials results

demo: .venv/ready
	$(BIN)/python run.py

test: .venv/ready
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

fuzz: .venv/ready
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 tests/fuzz_all.py

faults: .venv/ready
	$(BIN)/python -m pytest -q tests/kill_all.py

golden: .venv/ready
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 tests/golden_all.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python benchmarks/speed.py

results: .venv/ready
	$(BIN)/python benchmarks/results.py

# A broken link, or a name that the reference asks for and the code has not, fails; --quiet would leave warnings uncounted.
docs: .venv/docs tutorials
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Each tutorial is run when it, or what it runs, was changed; a page is what came out.
SOURCES := $(shell find distill configs experts -name '*.py' -o -name '*.yaml')
tutorials: $(patsubst tutorials/%.py,docs/tutorials/%.md,$(wildcard tutorials/*.py))

docs/tutorials/%.md: tutorials/%.py benchmarks/tutorials.py $(SOURCES) | .venv/docs
	$(BIN)/python benchmarks/tutorials.py $<

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# torch and torchvision are asked for in one request, so that both come from one index.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch torchvision --editable '.[dev,slurm,ray]'
	touch $@
