# SPDX-License-Identifier: GPL-2.0-only
# bsync: `make` shows the targets.

# The system's own Python, so that its venv module comes from the package in packages.txt.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
PREFIX ?= /usr/local
DESTDIR ?=
BIN := .venv/bin
SHARE := $(PREFIX)/share
UNITS := $(PREFIX)/lib/systemd/system
# So many tests run beside each other, in processes that take the next one each as they are free.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadgroup

.PHONY: help install uninstall develop compiled demo test test-unit test-host test-boot test-vm \
	bench docs clean

help:
	@echo 'make demo       show bsync on two image files (installs what it needs; root)'
	@echo 'make install    install it below PREFIX ($(PREFIX)) and DESTDIR, downloading nothing'
	@echo 'make uninstall  remove that again'
	@echo 'make develop    a developer'"'"'s environment in .venv'
	@echo 'make test       all tests (root); also test-unit, test-host, test-boot, test-vm'
	@echo 'make bench      measure it beside other tools, into docs/benchmarks.md'
	@echo 'make clean      remove what these have made in this folder'

# Where the system's Python finds its packages differs by distribution, so bsync has a folder of its
# own.  A package compiles by itself what it installs.
install:
	@$(PYTHON) -c 'import click, numpy' || { echo 'make install needs click and numpy' \
		'for $(PYTHON): on Debian, python3-click and python3-numpy'; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(SHARE)/bsync $(DESTDIR)$(SHARE)/doc/bsync/docs
	cd src && find bsync -name '*.py' -exec install -D -m 644 {} $(DESTDIR)$(SHARE)/bsync/{} \;
	printf '%s\n' '#!$(PYTHON) -I' 'import sys' 'sys.path.insert(0, "$(SHARE)/bsync")' \
		'from bsync.__main__ import main' 'main()' > $(DESTDIR)$(PREFIX)/bin/bsync
	chmod 755 $(DESTDIR)$(PREFIX)/bin/bsync
	PYTHONPATH=src $(PYTHON) -B tools/make_docs.py $(DESTDIR)$(SHARE)
	install -m 644 CHANGELOG.md COPYING README.md SECURITY.md $(DESTDIR)$(SHARE)/doc/bsync
	install -m 644 docs/*.* $(DESTDIR)$(SHARE)/doc/bsync/docs
	install -d $(DESTDIR)$(UNITS)
	install -m 644 systemd/*.service systemd/*.timer $(DESTDIR)$(UNITS)
	$(if $(DESTDIR),,$(PYTHON) -m compileall -q $(SHARE)/bsync)

uninstall:
	rm -rf $(DESTDIR)$(SHARE)/bsync $(DESTDIR)$(SHARE)/doc/bsync
	rm -f $(DESTDIR)$(UNITS)/bsync@.* $(DESTDIR)$(UNITS)/bsync-recover.service
	rm -f $(DESTDIR)$(PREFIX)/bin/bsync $(DESTDIR)$(SHARE)/man/man8/bsync.8 \
		$(DESTDIR)$(SHARE)/bash-completion/completions/bsync \
		$(DESTDIR)$(SHARE)/zsh/site-functions/_bsync \
		$(DESTDIR)$(SHARE)/fish/vendor_completions.d/bsync.fish

develop: .venv/developer compiled docs

# What bsync itself needs.
.venv/user: pyproject.toml setup.py packages.txt tools/install-packages
	tools/install-packages run install
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# What its tests need.
.venv/developer: .venv/user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

# What pip does by itself, but not for an editable installation: else, where Python may not write
# beside the sources, every command would compile them anew (0.15 s).
compiled: .venv/user
	$(BIN)/python -m compileall -q src

# Man page and shell completions, made from the declaration of the options, put where
# `man` and the shells find them in this environment.
docs: .venv/user
	$(BIN)/python tools/make_docs.py .venv/share

# Nothing stays outside this folder but Debian packages that were missing (README names them), not
# even what pip downloads.
demo: export PIP_NO_CACHE_DIR = 1
demo: .venv/user compiled docs
	demo/demo.sh

test: develop
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST)

test-unit: develop
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/unit tests/plans

test-host: develop
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/host tests/fuzz

test-boot: develop
	tools/install-packages test iscsi-user reiserfs
	$(PYTEST) tests/boot

# `make test-vm TEST=thin` runs alone what has that in its name.
test-vm: develop
	tools/install-packages test iscsi-user reiserfs
	BSYNC_VM_TEST='$(TEST)' $(PYTEST) $(if $(TEST),-k test_in_a_guest) tests/vm

# `make bench BENCH='--parts iscsi --rounds 1'` measures a part of it; see bench/run.py --help.
bench: develop
	tools/install-packages bench iscsi-user
	$(BIN)/python bench/run.py --output docs/benchmarks.md $(BENCH)

clean:
	rm -rf .venv build src/*.egg-info
