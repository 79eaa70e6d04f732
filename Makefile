# make demo    install (the first time) and make the bundled character dance: outputs/demo_side_by_side.mp4, outputs/demo.png
# make test    the tests (those marked slow or gpu left out)
# make lint    ruff, mypy, import-linter
# make bench   what the performance figures rest on
# make compare models side by side on rendered dancers: outputs/compare/synthetic/report.html
# make ablation  what each idea brings, by small trainings (an hour; goes on where it was): docs/ablation.md
#
# All else is optional: `make demo PYTHON=python3.12 ARGS="seed=3"`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# Of all that pip says, what it is fetching and putting in place.
BRIEFLY := sed -n -E 's/^ *(Downloading|Using cached) ([^ ]+)( \(.*\))?.*/    \2\3/p; s/^(Installing collected packages).*/    installing …/p'

.PHONY: demo test lint bench ablation compare install

demo: $(INSTALLED)
	@$(BIN)/mimic demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -m "not slow and not gpu" $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

ablation: $(INSTALLED)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.ablation $(ARGS)

compare: $(INSTALLED)
	@$(BIN)/mimic compare --config configs/compare/synthetic.yaml $(ARGS)

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "mimic needs Python 3.10 or later; here $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	    echo "Install a later one, or name it: make demo PYTHON=python3.12"; exit 1; }
	@[ -x $(BIN)/python ] || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); } || { \
	    rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@echo "installing torch (the largest part; minutes on the first time)"
	@$(PIP) -c constraints.txt torch | $(BRIEFLY)
	@echo "installing mimic and the rest"
	@$(PIP) -c constraints.txt -e '.[dev]' | $(BRIEFLY)
	@touch $@
