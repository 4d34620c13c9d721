# SPDX-License-Identifier: GPL-2.0-only
# bsync: `make demo` shows it, `make test` tests it; both install what they need.

# The system's own Python, so that its venv module comes from the package in packages.txt.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
BIN := .venv/bin
# So many tests run beside each other, in processes that take the next one each as they are free.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadgroup

.PHONY: install compiled demo test test-unit test-host test-boot test-vm bench docs clean

install: .venv/installed compiled docs

.venv/installed: pyproject.toml packages.txt tools/install-packages
	tools/install-packages run install
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

# What pip does by itself, but not for an editable installation: else, where Python may not write
# beside the sources, every command would compile them anew (0.15 s).
compiled: .venv/installed
	$(BIN)/python -m compileall -q src

# Man page and shell completions, made from the declaration of the options, put where
# `man` and the shells find them in this environment.
docs: .venv/installed
	$(BIN)/python tools/make_docs.py .venv/share

demo: install
	demo/demo.sh

test: install
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST)

test-unit: install
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/unit tests/plans

test-host: install
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/host tests/fuzz

test-boot: install
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/boot

# `make test-vm TEST=thin` runs alone what has that in its name.
test-vm: install
	tools/install-packages test iscsi-user reiserfs
	BSYNC_VM_TEST='$(TEST)' $(PYTEST) $(if $(TEST),-k test_in_a_guest) tests/vm

# `make bench BENCH='--parts iscsi --rounds 1'` measures a part of it; see bench/run.py --help.
bench: install
	tools/install-packages bench iscsi-user
	$(BIN)/python bench/run.py --output docs/benchmarks.md $(BENCH)

clean:
	rm -rf .venv build src/*.egg-info
