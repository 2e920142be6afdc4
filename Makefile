# `make test` is the one command that passes all tests; it fetches the real Ray, etcd and kube-apiserver itself.

CARGO ?= cargo

.PHONY: test matrix tools lint core doc ci build figures

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

ci: tools lint core test

build:
	$(CARGO) build --release --no-default-features --features sidecar

# Measures the program as it goes into the image; the measuring itself needs no optimisation.
figures: tools build
	RAYSCALER_TEST_SIDECAR=$(CURDIR)/target/release/rayscaler $(CARGO) bench --profile dev --bench reaction
