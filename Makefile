# Everything runs in .venv, with exactly the versions of constraints.txt.
# A CPU or CUDA build of torch: see docs/quickstart.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SUDO := $(shell [ `id -u` = 0 ] || echo sudo)
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test test-fast test-browser test-faults test-faults-fast test-lowest test-protections mutate bench lint docs clean

quickstart: $(VENV)/.quickstart
	$(BIN)/mtdnn run experiments/quickstart.yaml
	$(BIN)/mtdnn report runs/quickstart

test: $(VENV)/.test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/faults --ignore tests/browser -m "not blocks"

test-fast: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/faults --ignore tests/browser -m "not slow and not blocks and not realdata"

# The report in headless Chromium; takes Debian's package where none is installed.
test-browser: $(VENV)/.browser
	$(BIN)/python -m pytest tests/browser

# The fast tests with the lowest version of every dependency (constraints-lowest.txt), in an environment of their own.
# DeBERTa of transformers 5.17 calls torch.jit.script, of which torch 2.13 warns; submitit 1.5.0 imports pkg_resources.
test-lowest: $(VENV)-lowest/.test
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest --ignore tests/faults --ignore tests/browser \
		-m "not slow and not blocks and not realdata" -W 'ignore:`torch.jit.script` is deprecated:DeprecationWarning' \
		-W 'ignore:pkg_resources is deprecated:DeprecationWarning'

# Faults that are really done: kills, full disks, damaged files; the table at the end says what came of each.
test-faults: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults --numprocesses 2 --scale full

test-faults-fast: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults --numprocesses 2 --scale fast

# Does each fault's test fail when what protects against it is taken out?
test-protections: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutate.py --protections

# Does a test notice when the numerics are wrong? One change at a time; some minutes on two cores.
mutate: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutate.py

# What is compared, and with what: benchmarks/README.md. Takes an hour and a half on two cores, which it wants alone.
bench: $(VENV)/.test
	set -e; for name in train_step memory prepare predict scaling products startup gpu; do $(BIN)/python -m benchmarks.$$name; done

# Runs the code blocks of the documentation site, and builds it into build/docs.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_docs.py -m blocks --numprocesses 2
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs build/docs

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.quickstart: $(VENV)/.python setup.cfg setup.py constraints.txt
	$(PIP) --editable '.[quickstart]'
	touch $@

$(VENV)/.test: $(VENV)/.python setup.cfg setup.py constraints.txt
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps smart-pytorch vat-pytorch
	touch $@

$(VENV)-lowest/.test: setup.cfg setup.py constraints-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --no-deps --requirement constraints-lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.browser: $(VENV)/.test
	command -v chromium > /dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium; }
	$(PIP) --editable '.[test,browser]'
	touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) --editable '.[test,docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest runs build dist *.egg-info
