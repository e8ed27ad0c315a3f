# The same few verbs everywhere. `make demo` and `make test` need Python >= 3.11, make and git; nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
.DEFAULT_GOAL := help

.PHONY: help demo test setup services clients torch imports lint bench tables lock docs picture clean

help:                  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup            ## one year of flights, from the first file to the last rollback
	$(BIN)/noria demo --dir .demo

test: setup            ## all tests
	@$(BIN)/python -m compileall -q src  # many hundred processes import it, and where PYTHONDONTWRITEBYTECODE is set each compiles it anew
	$(BIN)/python -m pytest -n 2 --dist loadfile

setup: $(STAMP)        ## the locked environment, in .venv

$(STAMP): requirements/lock.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Noria needs Python 3.11 to 3.13; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

services:              ## servers that some tests talk to (an S3 API), in .services; without them these tests are skipped
	$(PYTHON) -m venv .services
	.services/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/services.txt

clients:               ## clients of the Open Inference Protocol, in .clients; without them the tests with them are skipped
	$(PYTHON) -m venv .clients
	.clients/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/clients.txt

torch: setup           ## PyTorch, in .torch; without it the tests of its modules are skipped (PIP_CONSTRAINT chooses the build)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .torch -r requirements/torch.in

imports: setup         ## CatBoost and statsmodels, in .imports; without them the tests of their models are skipped
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target .imports -r requirements/imports.txt

lint: setup            ## style, rooms, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup           ## measure beside the peers; write docs/benchmarks.md (ONLY=chain: one section, SMALL=1: a try, ONLY=soak MINUTES=10)
	$(BIN)/python -m benchmarks.run $(if $(ONLY),--only $(ONLY)) $(if $(SMALL),--small) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MINUTES),--soak-minutes $(MINUTES))

tables: setup          ## play rollouts out; write the tables in docs/statistics.md (ROLLOUTS=2000)
	$(BIN)/python -m benchmarks.evidence $(if $(ROLLOUTS),--rollouts $(ROLLOUTS))

lock:                  ## renew the locks in requirements/ (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header requirements/dev.in -o requirements/lock.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header requirements/services.in -o requirements/services.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header requirements/clients.in -o requirements/clients.txt
	uv pip compile -q --no-deps --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header requirements/imports.in -o requirements/imports.txt

docs: setup            ## renew the pages that are made from the code: commands, errors, the project file
	$(BIN)/python docs/make.py

picture: setup         ## renew docs/console.webp from the demo's first scenes (needs Chromium)
	$(BIN)/python docs/picture.py

clean:                 ## remove the environment, the peers', the demo and the tools' caches
	rm -rf $(VENV) .services .clients .torch .imports .bench .demo .mypy_cache .ruff_cache .import_linter_cache .hypothesis
