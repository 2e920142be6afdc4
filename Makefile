# `make test` is the one command that passes all tests; it fetches the real Ray, etcd and kube-apiserver itself.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAM := $(TARGET)/release/rayscaler
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DENY_VERSION := 0.20.2
NAME := rayscaler-$(VERSION)-$(shell uname -m)-linux
ROOTFS ?= $(TARGET)/rootfs
RELEASE ?= $(TARGET)/release-files

.PHONY: sandbox simulate test matrix tools lint core doc ci build rootfs release deny advisories cargo-deny figures thousand fuzz parity side-by-side

# A minute of a busy cluster, without Kubernetes or Ray: `make sandbox ARGS="--speed 5"`.
sandbox:
	$(CARGO) run -- sandbox $(ARGS)

# SIMULATE_SEEDS seeds through trouble of every kind, HOURS of virtual time each, from SIMULATE_SEED on.
SIMULATE_SEEDS ?= 100
SIMULATE_SEED ?= 1
HOURS ?= 1h
simulate:
	$(CARGO) run --profile fuzz -- simulate --seeds $(SIMULATE_SEEDS) --seed $(SIMULATE_SEED) --hours $(HOURS) $(ARGS)

test: tools
	$(CARGO) test --no-fail-fast

# The full matrix: many more generated cases, and the whole run once more with KubeRay's own operator where it is named.
matrix: tools
	env -u RAYSCALER_TEST_KUBERAY_OPERATOR -u RAYSCALER_TEST_KUBERAY_CRDS PROPTEST_CASES=20000 $(CARGO) test --no-fail-fast
	if [ -n "$$RAYSCALER_TEST_KUBERAY_OPERATOR" ]; then $(CARGO) test --no-fail-fast --test operator --test acceptance; \
	else echo "left out: the run with KubeRay's own operator; set RAYSCALER_TEST_KUBERAY_OPERATOR and RAYSCALER_TEST_KUBERAY_CRDS"; fi

# Says what to install, instead of failing in the middle.
tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer"; exit 1; }
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (it builds etcd and kube-apiserver for the tests)"; exit 1; }
	@command -v cc >/dev/null || { echo "cc is missing: install a C compiler"; exit 1; }
	@command -v openssl >/dev/null || { echo "openssl is missing: install it (keys and certificates for the tests)"; exit 1; }
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || { echo "python3 with venv is missing: install Python 3.10 to 3.13 with venv (it runs Ray for the tests)"; exit 1; }

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

# The core must build without a clock, a network or a file system crate.
core:
	$(CARGO) check --lib --no-default-features
	$(CARGO) check --no-default-features --features sidecar

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

ci: tools lint core deny test

# The program as it goes into the image: without the stand-ins, and with the C library in it.
build:
	$(CARGO) rustc --locked --release --bin rayscaler --no-default-features --features sidecar -- -C target-feature=+crt-static

# The root file system of the image: one program under every name that KubeRay starts, and who runs it.
rootfs: build
	rm -rf $(ROOTFS)
	install -d $(ROOTFS)/bin $(ROOTFS)/etc $(ROOTFS)/usr/bin
	install -m 0755 $(PROGRAM) $(ROOTFS)/rayscaler
	ln -s /rayscaler $(ROOTFS)/bin/bash
	ln -s /rayscaler $(ROOTFS)/usr/bin/ray
	ln -s /rayscaler $(ROOTFS)/usr/bin/rayscaler
	echo 'rayscaler:x:1000:1000::/:/rayscaler' >$(ROOTFS)/etc/passwd
	echo 'rayscaler:x:1000:' >$(ROOTFS)/etc/group

# What goes beside a tag: program, root file system, list of what is in it, checksums.
release: rootfs
	@grep -q '^### $(VERSION)' README.md || { echo "README.md: the changelog has no section $(VERSION)"; exit 1; }
	rm -rf $(RELEASE)
	install -d $(RELEASE)
	install -m 0755 $(PROGRAM) $(RELEASE)/$(NAME)
	tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --file=$(RELEASE)/$(NAME)-rootfs.tar --directory=$(ROOTFS) .
	python3 deploy/sbom.py $(CARGO) >$(RELEASE)/$(NAME).cdx.json
	cd $(RELEASE) && sha256sum $(NAME)* >SHA256SUMS

# Licences, sources and banned packages of everything that is built in.
DENY := PATH="$$PATH:$(CURDIR)/.cache/tools/bin" cargo-deny
deny: cargo-deny
	$(DENY) check bans licenses sources

# Known vulnerabilities of the same. The database is a git repository, which cannot be had everywhere.
advisories: cargo-deny
	@if $(DENY) fetch db; then $(DENY) check --disable-fetch advisories; \
	else echo "advisories: NOT CHECKED, as the RustSec database cannot be had here; run this where it can"; exit 2; fi

cargo-deny:
	@command -v cargo-deny >/dev/null || [ -x .cache/tools/bin/cargo-deny ] || $(CARGO) install --debug --locked --root .cache/tools --version $(DENY_VERSION) cargo-deny

# Measures the program as it goes into the image; the measuring itself needs no optimisation.
figures: tools build
	RAYSCALER_TEST_SIDECAR=$(abspath $(PROGRAM)) $(CARGO) bench --profile dev --bench reaction

# Measures a cluster that grows to a thousand workers and shrinks again; the operator is KubeRay's where it is named.
thousand: tools build
	RAYSCALER_TEST_SIDECAR=$(abspath $(PROGRAM)) $(CARGO) bench --profile dev --bench thousand

# RUNS changed replies of the GCS, from SEED on, THREADS at a time.
RUNS ?= 1000000
SEED ?= 1
THREADS ?= 2
fuzz:
	RAYSCALER_FUZZ_RUNS=$(RUNS) RAYSCALER_FUZZ_SEED=$(SEED) RAYSCALER_FUZZ_THREADS=$(THREADS) $(CARGO) test --profile fuzz --no-default-features --features sidecar --test fuzz -- --nocapture

# COUNT random cases of each of SEEDS, decided by Ray's own scheduler and by ours: `make parity SEEDS="2 3" COUNT=1000`.
SEEDS ?= 1
COUNT ?= 700
parity: tools
	RAYSCALER_PARITY_SEEDS="$(SEEDS)" RAYSCALER_PARITY_COUNT=$(COUNT) $(CARGO) test --test parity -- --nocapture

# Ray's scheduler and ours on identical inputs; Ray is given up after LIMIT seconds.
LIMIT ?= 60
RAY_PYTHON ?= .cache/real/ray-2.60.0/bin/python
side-by-side:
	@[ -x $(RAY_PYTHON) ] || { echo "$(RAY_PYTHON) is missing: make parity makes it"; exit 1; }
	$(CARGO) build --release --no-default-features --features sidecar --example parity
	$(RAY_PYTHON) -B tests/parity/side_by_side.py target/release/examples/parity --limit $(LIMIT)
