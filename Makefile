# People and the CI do everything through these targets; `make help` lists them.
# Everything is installed in this folder, except Consul, which is kept in ~/.cache/mcpmesh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SILENT:

# Compiled modules are kept, also where the environment says otherwise: a mesh is a dozen Python processes, and each
# would compile the program again. An empty value is as good as none.
export PYTHONDONTWRITEBYTECODE :=

# FILE is the catalog that `make up` starts. ARGS are arguments for pytest: options, and paths that replace the target's
# own (its testpaths): make test ARGS='-k intention', make test ARGS='tests/unit -x'.
FILE ?= examples/mesh.yaml
ARGS ?=
# The number of processes that run tests at the same time. It is more than the cores, since most tests wait for a mesh.
# With 0, one process runs all tests.
WORKERS ?= 3

BIN := .venv/bin

# These folders have targets of their own. `make test` runs them only if ARGS names them: pytest does not ignore a path
# that it is given.
NOT_IN_TEST := $(addprefix --ignore=,tests/e2e tests/integration/docker tests/integration/twenty)

# The first Python that is new enough; empty if there is none.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

# $(call slow,TITLE,COMMAND) runs a command. Every five seconds a line shows the
# time and the last line of its output. If it fails, the end of its output is shown.
define slow
printf '%s\n' "$(1)"; log=$$(mktemp); \
( exec 9<> <(:); while ! read -rt 5 -u 9; do \
	printf '  %3s s  %s\n' "$$SECONDS" "$$(tail -n 1 "$$log" | sed 's|^ *||; s|\r||g' | cut -c 1-100)"; done ) & ticker=$$!; \
trap 'kill "$$ticker" 2>/dev/null || true; rm -f "$$log"' EXIT; \
trap 'exit 130' INT; { $(2); } >"$$log" 2>&1 || { tail -n 25 "$$log" >&2; exit 1; }
endef

# $(call venv,FOLDER) makes a virtual environment, unless there is one whose pip works.
venv = { $(1)/bin/python -m pip --version 2>/dev/null || "$(PYTHON)" -m venv --clear $(1); }

.PHONY: help
help: ## list the targets
	printf 'make TARGET\n\n'
	sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

.PHONY: setup
setup: $(BIN)/.installed examples/.venv/.installed npm-servers consul-binary ## install everything that the mesh needs: packages, example servers, Consul

.PHONY: up
up: setup ## start the mesh of FILE (default examples/mesh.yaml) in the foreground; Ctrl-C stops it
	exec $(BIN)/mcpmesh up -f $(FILE)

.PHONY: test
test: setup tests/conformance/node_modules/.installed ## run all tests with the real Consul, Envoy and servers; ARGS go to pytest
	exec $(BIN)/python -m pytest $(NOT_IN_TEST) -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: soak
soak: $(BIN)/.installed ## drop 4,000 callers impolitely and make a million calls with one id (3 minutes; ARGS: sessions, isolation)
	exec $(BIN)/python -m tests.soak $(ARGS)

# Their npm packages alone are 900 MB, so neither `make setup` nor `make test` installs them.
.PHONY: twenty
twenty: | python-found ## install the servers of examples/twenty that this machine can run
	PYTHON=$(PYTHON) exec examples/twenty/install

.PHONY: test-twenty
test-twenty: setup twenty ## start the servers of examples/twenty in one mesh and write their table into docs/servers.md
	exec $(BIN)/python -m pytest -o testpaths=tests/integration/twenty $(ARGS)

.PHONY: conformance
conformance: setup tests/conformance/node_modules/.installed ## run the official suite on the shim, alone and in a mesh
	exec $(BIN)/python -m tests.conformance $(ARGS)

.PHONY: bench-shim
bench-shim: $(BIN)/.installed ## measure the shim and other bridges (8 minutes; ARGS: --only WORD, --quick)
	exec $(BIN)/python -m bench.shim $(ARGS)

# Tests that need a Docker Engine have a target of their own.
.PHONY: e2e
e2e: setup ## test compose.yaml and containers on a real Docker, which is installed if it is missing; ARGS go to pytest
	tests/e2e/machine/engine >/dev/null
	tests/e2e/machine/images "$$(cat $(BIN)/.consul)"
	exec $(BIN)/python -m pytest -o testpaths='tests/integration/docker tests/e2e' $(ARGS)

.PHONY: mutants
mutants: setup ## count the changed operators, of 200, that unit and contract tests notice (ARGS: --only PATH, --seed N, --count N)
	exec $(BIN)/python -m tests.mutants $(ARGS)

.PHONY: check
check: $(BIN)/.installed ## check format, lint, strict types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: clean
clean: ## remove everything that setup and the tools made in this folder
	rm -rf .venv examples/.venv examples/node_modules tests/conformance/node_modules dist
	rm -rf examples/twenty/{.venv,bin,.installed,node_modules,claude-flow/node_modules,ruv-swarm/node_modules}
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mutants
	find agent tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: python-found
python-found:
	test -n "$(PYTHON)" || { \
		echo 'cannot set up: no Python 3.11 or newer on PATH; install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'cannot set up: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

$(BIN)/.installed: pyproject.toml | python-found
	$(call slow,installing mcpmesh and its tools into .venv,\
		$(call venv,.venv) && $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[dev]')
	touch $@

examples/.venv/.installed: examples/requirements.txt | python-found
	$(call slow,installing the Python example servers into examples/.venv,\
		$(call venv,examples/.venv) && examples/.venv/bin/python -m pip install --disable-pip-version-check --progress-bar off -r examples/requirements.txt)
	touch $@

# Without Node, only the services that need it fail. So the rest is installed all the same.
.PHONY: npm-servers
npm-servers:
	if command -v npm >/dev/null && command -v node >/dev/null; then \
		$(MAKE) examples/node_modules/.installed; \
	else \
		echo 'node or npm is not on PATH: the example servers that need it will not start (https://nodejs.org, 20 or newer)' >&2; \
	fi

examples/node_modules/.installed: examples/package.json examples/package-lock.json
	$(call slow,installing the Node example servers into examples/node_modules,\
		npm ci --prefix examples --no-audit --no-fund --ignore-scripts)
	touch $@

# The conformance suite, the inspector and their Node. Their install scripts are not run.
tests/conformance/node_modules/.installed: tests/conformance/package.json tests/conformance/package-lock.json
	command -v npm >/dev/null || { echo 'npm is not on PATH: the conformance suite is installed with it (https://nodejs.org)' >&2; exit 1; }
	$(call slow,installing the conformance suite into tests/conformance/node_modules,\
		npm ci --prefix tests/conformance --no-audit --no-fund --ignore-scripts --loglevel error)
	touch $@

# The path is remembered until the pinned version changes, so that a second start need not look for it.
.PHONY: consul-binary
consul-binary: $(BIN)/.installed
	test $(BIN)/.consul -nt consul/build/go.mod && test -x "$$(cat $(BIN)/.consul)" || { \
		path=$$($(BIN)/python -m mcpmesh.consul.binary) && printf '%s\n' "$$path" > $(BIN)/.consul; }
