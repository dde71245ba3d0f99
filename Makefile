# Two commands for a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint types imports bench-main bench-solvers bench-gpu bench-drop-in bench-representations bench-neighbours clean

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

# `--group` needs pip 25.1; the names come from pyproject.toml all the same, so that older pips work too.
$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['test']))" > $(VENV)/test-requirements.txt
	$(PIP) install --constraint constraints.txt --requirement $(VENV)/test-requirements.txt
	@touch $@

demo: $(VENV)/.core
	$(BIN)/lastlayer demo

test: $(VENV)/.test
	SCIPY_ARRAY_API=1 $(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/ruff format --check src tests benchmarks experiments

types: $(VENV)/.test
	$(BIN)/mypy

imports: $(VENV)/.test
	$(BIN)/lint-imports

# MNIST=FOLDER CIFAR=FOLDER (train/CLASS/*) or ARRAYS=FOLDER; PEERS=VENV/bin/python for scikit-learn-intelex and PyTorch
bench-solvers: $(VENV)/.core
	$(BIN)/python benchmarks/solvers.py --cut-at-target $(if $(MNIST),--mnist $(MNIST)) $(if $(CIFAR),--cifar $(CIFAR)) $(if $(ARRAYS),--arrays $(ARRAYS)) $(if $(PEERS),--peers-python $(PEERS)) $(foreach name,$(ONLY),--only $(name))

bench-gpu: $(VENV)/.core
	$(BIN)/python benchmarks/gpu.py $(if $(ARRAYS),--arrays $(ARRAYS))

# scikit-learn's own tests, on our drop-in estimators
bench-drop-in: $(VENV)/.test
	$(BIN)/python benchmarks/drop_in.py

# ARRAYS=FOLDER with cifar_train.npy; PEERS=VENV/bin/python with benchmarks/requirements.txt
bench-representations: $(VENV)/.core
	$(BIN)/python benchmarks/representations.py $(if $(ARRAYS),--arrays $(ARRAYS)) $(if $(PEERS),--peers-python $(PEERS))

# ARRAYS=FOLDER with mnist_{train,test}.npy; PEERS=VENV/bin/python with faiss-cpu
bench-neighbours: $(VENV)/.core
	$(BIN)/python benchmarks/neighbours.py $(if $(ARRAYS),--arrays $(ARRAYS)) $(if $(PEERS),--faiss-python $(PEERS))

clean:
	rm -rf $(VENV) dist

# MNIST=FOLDER CIFAR=FOLDER: each with train/CLASS/* and test/CLASS/*
bench-main: $(VENV)/.core
	$(BIN)/python benchmarks/main_job.py $(if $(MNIST),--mnist $(MNIST)) $(if $(CIFAR),--cifar $(CIFAR))
