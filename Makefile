# Everything that a person or the CI does here goes through these targets; `make help` lists them.
# Nothing is installed outside this folder but Consul, which is kept in ~/.cache/mcpmesh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SILENT:

# The catalog that `make up` starts, and what is handed to pytest: options, and paths that replace the target's own
# (its testpaths): make test ARGS='-k intention', make test ARGS='tests/unit -x'.
FILE ?= examples/mesh.yaml
ARGS ?=
# Processes that run the tests side by side; most of them wait for a mesh, so more than there are cores. 0 is this one.
WORKERS ?= 3

BIN := .venv/bin

# Folders with targets of their own. `make test` runs them only when ARGS names them: pytest ignores no path that it is given.
NOT_IN_TEST := $(addprefix --ignore=,tests/e2e tests/integration/docker tests/integration/twenty)

# The first Python that is new enough; empty where there is none.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

# $(call slow,what is done,command): a line every five seconds says how long it
# takes and what the command said last; its end is shown if it fails by itself.
define slow
printf '%s\n' "$(1)"; log=$$(mktemp); \
( exec 9<> <(:); while ! read -rt 5 -u 9; do \
	printf '  %3s s  %s\n' "$$SECONDS" "$$(tail -n 1 "$$log" | sed 's|^ *||; s|\r||g' | cut -c 1-100)"; done ) & ticker=$$!; \
trap 'kill "$$ticker" 2>/dev/null || true; rm -f "$$log"' EXIT; \
trap 'exit 130' INT; { $(2); } >"$$log" 2>&1 || { tail -n 25 "$$log" >&2; exit 1; }
endef

# $(call venv,folder): one with a pip that works is kept, half of one is not.
venv = { $(1)/bin/python -m pip --version 2>/dev/null || "$(PYTHON)" -m venv --clear $(1); }

.PHONY: help
help: ## this list
	printf 'make TARGET\n\n'
	sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

.PHONY: setup
setup: $(BIN)/.installed examples/.venv/.installed npm-servers consul-binary ## prepare all that the mesh needs: packages, example servers, Consul

.PHONY: up
up: setup ## start the mesh of FILE (examples/mesh.yaml) here; Ctrl-C stops it
	exec $(BIN)/mcpmesh up -f $(FILE)

.PHONY: test
test: setup tests/conformance/node_modules/.installed ## run all tests against the real parts; ARGS go to pytest
	exec $(BIN)/python -m pytest $(NOT_IN_TEST) -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: soak
soak: $(BIN)/.installed ## drop 4,000 callers impolitely, make a million calls of one id (3 minutes; ARGS: sessions, isolation)
	exec $(BIN)/python -m tests.soak $(ARGS)

# Their npm packages alone are 900 MB, so neither `make setup` nor `make test` asks for them.
.PHONY: twenty
twenty: | python-found ## install the servers of examples/twenty, as far as this machine can
	PYTHON=$(PYTHON) exec examples/twenty/install

.PHONY: test-twenty
test-twenty: setup twenty ## bring them up in one mesh, print the table and write it into docs/servers.md
	exec $(BIN)/python -m pytest -o testpaths=tests/integration/twenty $(ARGS)

.PHONY: conformance
conformance: setup tests/conformance/node_modules/.installed ## the official suite against the shim, alone and in a whole mesh
	exec $(BIN)/python -m tests.conformance $(ARGS)

.PHONY: bench-shim
bench-shim: $(BIN)/.installed ## measure the shim beside other bridges (8 minutes; ARGS: --only WORD, --quick)
	exec $(BIN)/python -m bench.shim $(ARGS)

# What needs a Docker Engine has a target of its own.
.PHONY: e2e
e2e: setup ## run compose.yaml and the container runtime on a real Docker, which is installed where there is none; ARGS go to pytest
	tests/e2e/machine/engine >/dev/null
	tests/e2e/machine/images "$$(cat $(BIN)/.consul)"
	exec $(BIN)/python -m pytest -o testpaths='tests/integration/docker tests/e2e' $(ARGS)

.PHONY: mutants
mutants: setup ## do the unit and contract tests notice 200 changed operators? (ARGS: --only PATH, --seed N, --count N, --help)
	exec $(BIN)/python -m tests.mutants $(ARGS)

.PHONY: check
check: $(BIN)/.installed ## format, lint, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: clean
clean: ## remove what setup and the tools made in this folder
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

# Without Node only the services that need it fail, so the rest is set up all the same.
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

# The suite, the inspector and the Node that they need; their scripts are not run.
tests/conformance/node_modules/.installed: tests/conformance/package.json tests/conformance/package-lock.json
	command -v npm >/dev/null || { echo 'npm is not on PATH: the conformance suite is installed with it (https://nodejs.org)' >&2; exit 1; }
	$(call slow,installing the conformance suite into tests/conformance/node_modules,\
		npm ci --prefix tests/conformance --no-audit --no-fund --ignore-scripts --loglevel error)
	touch $@

# The path is remembered until the pinned version changes, so that a second start does not even ask.
.PHONY: consul-binary
consul-binary: $(BIN)/.installed
	test $(BIN)/.consul -nt consul/build/go.mod && test -x "$$(cat $(BIN)/.consul)" || { \
		path=$$($(BIN)/python -m mcpmesh.consul.binary) && printf '%s\n' "$$path" > $(BIN)/.consul; }
