# `make` sets up .venv; `make help` lists the rest. Needs Debian 12 or 13, and root where packages
# are missing. What is there already is left alone, so a second run needs no network.

export DEBIAN_FRONTEND := noninteractive
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := venv

# To run a node and a guest, and to test on whole systemd hosts.
PACKAGES := busybox-static nix-bin python3-gi python3-pydbus python3-systemd python3-venv \
	qemu-system-x86
HOST_PACKAGES := e2fsprogs iproute2 mmdebstrap mount nftables systemd-container zstd

PYTHON := .venv/bin/python
GUEST := /opt/blixard/guest
ETCD := /opt/blixard/etcd
PROMTOOL := /opt/blixard/promtool
LOCKS := python/requirements-build.lock python/requirements-dev.lock

# apt-get is not even asked when nothing is missing.
define install
	missing=$$(for name in $(1); do
	  dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || echo $$name
	done)
	[ -z "$$missing" ] && exit 0
	echo "Installing" $$missing
	apt-get update -q
	apt-get install -qy --no-install-recommends $$missing
endef

# Leaves the contents of a package in ./unpacked, in a directory that is removed at the end.
define unpack
	scratch=$$(mktemp -d)
	trap 'rm -rf "$$scratch"' EXIT
	cd "$$scratch"
	apt-get -o APT::Sandbox::User=root download -q $(1)
	dpkg-deb --extract ./*.deb unpacked
endef

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

venv: packages .venv/complete ## what a node needs, and .venv/bin/blixard (the default)

packages:
	@$(call install,$(PACKAGES))

host-packages:
	@$(call install,$(HOST_PACKAGES))

# pysyncobj comes as a source archive, so its build tools are installed first, locked as well.
.venv/complete: python/pyproject.toml $(LOCKS) | packages
	@/usr/bin/python3 -m venv --system-site-packages .venv
	pip="$(PYTHON) -m pip --disable-pip-version-check --quiet"
	for lock in $(LOCKS); do
	  $$pip install --require-hashes --no-build-isolation --use-pep517 -r $$lock
	done
	$$pip install --no-deps --no-build-isolation --editable python
	touch $@

guest: $(GUEST)/vmlinuz ## the kernel that vm-templates/tiny boots

# The kernel is unpacked, never installed: this machine goes on booting its own.
$(GUEST)/vmlinuz:
	@apt-get update -q
	package=$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p')
	$(call unpack,"$$package")
	install -D -m 644 unpacked/boot/vmlinuz-* $@

demo: venv guest ## three nodes on this machine, and a microVM that survives
	@.venv/bin/blixard demo

# These compute, or wait, and share the cores; the others measure times, or fill the machine. Those
# that take longest come first.
TOGETHER := tests/hosts/test_nixos_scripts.py tests/sim tests/test_documents.py tests/nix \
  $(foreach part,lifecycle console demo move health metrics apply,tests/cluster/test_$(part).py) \
  tests/templates tests/schedules tests/core

test: lint guest host-packages $(PROMTOOL) ## every check and test, systemd hosts included
	@$(PYTHON) -m pytest --numprocesses auto --dist loadgroup $(TOGETHER)
	$(PYTHON) -m pytest tests $(addprefix --ignore=,$(TOGETHER))

lint: venv ## ruff and mypy
	@$(PYTHON) -m ruff check python tests
	$(PYTHON) -m ruff format --check python tests
	$(PYTHON) -m mypy --config-file python/pyproject.toml python/blixard tests

bench: venv guest ## measures what the documentation states
	@PYTHONPATH=tests $(PYTHON) -m bench

bench-etcd: venv $(ETCD) ## commits beside etcd's
	@PYTHONPATH=tests $(PYTHON) -m bench --etcd $(ETCD)

# The server is unpacked, never installed: no service is started.
$(ETCD):
	@apt-get update -q
	$(call unpack,etcd-server)
	install -D unpacked/usr/bin/etcd $@

# The alert rules are tried with it; no Prometheus is started.
$(PROMTOOL):
	@apt-get update -q
	$(call unpack,prometheus)
	install -D unpacked/usr/bin/promtool $@

SEEDS ?= 1000
soak: venv ## simulates SEEDS histories on all cores, going on where the last run ended
	@.venv/bin/blixard sim --seed 0 --seeds $(SEEDS) --record soak.json

ROUNDS ?= 60
soak-hosts: venv guest host-packages ## strikes systemd hosts until there are ROUNDS rounds in all
	@PYTHONPATH=tests $(PYTHON) -m hosts.campaign --rounds $(ROUNDS) --record soak-hosts.jsonl

screenshot: venv ## makes docs/top.svg from a cluster on this machine that loses a host
	@PYTHONPATH=tests $(PYTHON) -m cluster.screenshot docs/top.svg

proto: venv ## generates python/blixard/v1 from proto
	@$(PYTHON) -m grpc_tools.protoc -I proto --python_out=python --pyi_out=python \
	  --grpc_python_out=python proto/blixard/v1/*.proto

lock: venv ## resolves python/pyproject.toml into the lock files, keeping what still fits
	@cd python
	compile="../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes"
	export UV_CUSTOM_COMPILE_COMMAND="make lock"
	$$compile pyproject.toml --output-file requirements.lock
	$$compile pyproject.toml --group dev --output-file requirements-dev.lock
	$$compile --group build --output-file requirements-build.lock

clean: ## removes .venv and caches; installed packages stay
	@rm -rf .venv python/*.egg-info
	find . \( -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \) -prune -exec rm -rf {} +

.PHONY: help venv packages host-packages guest demo test lint bench bench-etcd soak soak-hosts screenshot proto lock clean
