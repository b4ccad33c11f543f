# Every target installs what it needs into .venv first; a machine needs Python 3.11 or newer and make.

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 3
EPOCHS ?= 15
DEVICE ?= cpu
BIN := .venv/bin
READY := .venv/ready

.PHONY: help demo test bench fast check format generated docs clean

help:  ## Say what each target does
	@sed -n 's/^\([a-z]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(READY)  ## Walk from generated recordings to a report, in ./demo
	@rm -rf demo/scenes demo/features demo/run demo/clip.png && mkdir -p demo && date +%s > demo/.started
	@echo "A walk from recordings to a report: under five minutes on two cores."
	$(BIN)/ascfeat demo-data demo/scenes
	$(BIN)/ascfeat check demo/scenes
	$(BIN)/ascfeat extract --recipe logmel256 --features demo/features demo/scenes
	$(BIN)/ascmodels fit five_conv_small demo/scenes --features demo/features --out demo/run --set epochs=$(EPOCHS)
	$(BIN)/ascmodels evaluate demo/run
	$(BIN)/ascmodels predict demo/run $$(sed -n '2s|^|demo/scenes/|p;40s|^|demo/scenes/|p' demo/scenes/evaluation_setup/fold1_test.csv | tr -d '\r')
	@echo "(both recordings are from the test side)"
	$(BIN)/ascfeat show demo/features/scenes/logmel256.zarr $$(ls demo/scenes/audio | head -1) --out demo/clip.png
	@echo "From nothing to a report in $$(($$(date +%s) - $$(cat demo/.started))) s. The commands are in $(BIN). Pictures: $$(ls demo/clip.png demo/run/*.png | xargs)"

test: $(READY)  ## Run all tests
	@$(BIN)/pytest -n $(JOBS) --dist worksteal

bench: $(READY)  ## Measure representations, extraction, stores and training against their peers; DEVICE=cuda:0 for a GPU
	$(BIN)/python tests/benchmarks/dsp.py --device $(DEVICE)
	$(BIN)/python tests/benchmarks/extract.py --device $(DEVICE)
	$(BIN)/python tests/benchmarks/store.py --servers
	$(BIN)/python tests/benchmarks/train.py --device $(DEVICE)

fast: $(READY)  ## Run the tests that take seconds
	@$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow"

check: $(READY)  ## Lint, format, types, layers, docs, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/pytest -q tests/unit/test_generated.py

format: $(READY)  ## Format the code and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: $(READY)  ## Write the JSON Schemas and the README's tree again
	$(BIN)/python -m ascschemas.export schemas/json
	$(BIN)/python docs/tree.py README.md

docs: $(READY)  ## Serve the documentation while you write it
	$(BIN)/mkdocs serve

clean:  ## Remove .venv and everything that was built
	rm -rf .venv demo site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0])'
	@echo "Installing into .venv (this downloads torch and other packages once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
