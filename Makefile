# `make help` lists the targets.
CARGO := scripts/cargo.sh
CLANG_FORMAT ?= clang-format-19
target := $(or $(CARGO_TARGET_DIR),target)
bpf := $(filter-out src/bpf/vmlinux.h,$(wildcard src/bpf/*.[ch] benches/*.[ch] tests/common/*.[ch]))
prefix ?= /usr/local

.PHONY: all build run check test test-k8s k8s test-packages test-kernels deb chain crash rewrites full fuzz storm hash-search soak differential agreement bench bench-scale install clean setup help

all: build ## build ./edns

build:
	$(CARGO) build --release --locked
	ln -sf $(abspath $(target))/release/edns edns

setup: ## install what building and testing need (root, Debian)
	scripts/setup.sh

run: ## install what building needs, build, and run with configs/config.yaml (root)
	scripts/setup.sh build
	$(MAKE) build
	./edns

check: ## formats, lints and the tests that need no privileges
	$(CARGO) fmt --all --check
	$(CLANG_FORMAT) --dry-run --Werror $(bpf)
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release --locked --test k8s --test soak --test differential --test agreement --test kernels -- -D warnings
	$(CARGO) test --release --locked --lib --bins --quiet

test: ## all tests except those of other tiers, in network namespaces of their own (root)
	@test "$$(id -u)" = 0 || { echo 'make test: run as root (sudo make test)' >&2; exit 1; }
	scripts/setup.sh
	$(CARGO) test --release --locked --no-fail-fast

test-k8s: ## tests with a real API server and CoreDNS, which are built on first use (root, Go)
	$(MAKE) --keep-going k8s differential QUESTIONS=30000 SEED=7

k8s:
	@test "$$(id -u)" = 0 || { echo 'make test-k8s: run as root' >&2; exit 1; }
	scripts/setup.sh
	EDNS_K8S_TOOLS=$$(scripts/k8s-tools.sh) $(CARGO) test --release --locked --test k8s -- --test-threads 6

test-kernels: ## tests on other kernels in QEMU, which are downloaded or built once (root, Debian on x86-64)
	@test "$$(id -u)" = 0 || { echo 'make test-kernels: run as root' >&2; exit 1; }
	scripts/setup.sh kernels
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=tests/kernels/run.sh \
		$(CARGO) test --release --locked --test kernels

chain: ## thirty rounds of pods while another program changes their chains at random (root)
	EDNS_CHAIN_ROUNDS=30 $(CARGO) test --release --locked --test daemon chain::random -- --nocapture

crash: ## two hundred kills at random moments under load (root)
	EDNS_CRASHES=200 $(CARGO) test --release --locked --test daemon crash -- --nocapture

rewrites: ## two thousand versions of a file that is written in pieces, under queries (root)
	EDNS_REWRITES=2000 $(CARGO) test --release --locked --test daemon rewrites -- --nocapture

full: ## a namespace of 33 Services of 8,000 ports among 5,000 others, with a real API server (root, Go)
	@test "$$(id -u)" = 0 || { echo 'make full: run as root' >&2; exit 1; }
	scripts/setup.sh
	EDNS_K8S_TOOLS=$$(scripts/k8s-tools.sh) EDNS_FULL_PORTS=8000 \
		$(CARGO) test --release --locked --test k8s full_maps::a_namespace -- --nocapture

fuzz: ## ten million mutated packets, and a million with other programs in the chain (root)
	EDNS_FUZZ_PACKETS=10000000 $(CARGO) test --release --locked --test fuzz -- --nocapture || failed=1; \
		EDNS_FUZZ_PACKETS=1000000 $(CARGO) test --release --locked --test neighbours random -- --nocapture || failed=1; \
		exit $${failed:-0}

storm: ## ten million answers are checked while records change (root)
	EDNS_STORM_ANSWERS=10000000 $(CARGO) test --release --locked --test storm -- --nocapture

hash-search: ## search for names that collide with more keys than chance explains (ten minutes)
	EDNS_HASH_SEARCH=1 $(CARGO) test --release --locked --lib hash

soak: ## answers are checked while the cluster changes and its API server dies; MINUTES=n (root, Go)
	@test "$$(id -u)" = 0 || { echo 'make soak: run as root' >&2; exit 1; }
	scripts/setup.sh
	EDNS_K8S_TOOLS=$$(scripts/k8s-tools.sh) EDNS_SOAK_SECONDS=$$(($(or $(MINUTES),5) * 60)) \
		$(CARGO) test --release --locked --test soak -- --nocapture

differential: ## a million random questions to eDNS and CoreDNS during faults of the API server; QUESTIONS=n, SEED=n (root, Go)
	@test "$$(id -u)" = 0 || { echo 'make differential: run as root' >&2; exit 1; }
	scripts/setup.sh
	EDNS_K8S_TOOLS=$$(scripts/k8s-tools.sh) EDNS_DIFFERENTIAL_QUESTIONS=$(or $(QUESTIONS),1000000) $(if $(SEED),EDNS_DIFFERENTIAL_SEED=$(SEED)) \
		$(CARGO) test --release --locked --test differential -- --nocapture

agreement: ## random frames to the daemon of another commit and to this tree's, a million; BEFORE=commit, QUERIES=n, SEED=n (root, Go)
	@test "$$(id -u)" = 0 || { echo 'make agreement: run as root' >&2; exit 1; }
	@test -n "$(BEFORE)$$EDNS_BEFORE" || { echo 'make agreement: BEFORE=commit, or EDNS_BEFORE=program in the environment' >&2; exit 1; }
	scripts/setup.sh
	$(if $(BEFORE),EDNS_BEFORE=$$(scripts/edns-at.sh $(BEFORE)) && export EDNS_BEFORE && )EDNS_K8S_TOOLS=$$(scripts/k8s-tools.sh) \
		EDNS_AGREEMENT_QUERIES=$(or $(QUERIES),1000000) $(if $(SEED),EDNS_AGREEMENT_SEED=$(SEED)) \
		$(CARGO) test --release --locked --test agreement -- --nocapture

bench: ## measure and write benches/RESULTS.md (root, Go, a quarter of an hour); QUICK=1, BEFORE=commit: see benches/README.md
	scripts/setup.sh
	$(if $(BEFORE),benches/before.sh $(BEFORE),benches/run.sh) $(if $(QUICK),--quick)

bench-scale: ## measure the cost of a large cluster and write benches/scale.md (root, Go, ten minutes)
	scripts/setup.sh
	benches/scale.sh

test-packages: deb ## test the .deb in a guest with systemd, and the image, with real queries (root)
	@test "$$(id -u)" = 0 || { echo 'make test-packages: run as root' >&2; exit 1; }
	scripts/setup.sh packages
	tests/packages/deb.sh $(target)/debian/edns_*.deb || failed=1; tests/packages/image.sh || failed=1; exit $${failed:-0}

deb: build ## build $(target)/debian/edns_*.deb with cargo-deb
	mkdir -p target/dist
	strip -o target/dist/edns $(target)/release/edns
	for s in bash zsh fish; do ./edns completions $$s >target/dist/edns.$$s; done
	$(CARGO) run --release --locked --quiet --package xtask >target/dist/edns.8
	rm -f $(target)/debian/edns_*.deb
	scripts/cargo-deb.sh --no-build --locked

install: build ## copy program, unit and configs to $(prefix) and /etc/edns; existing configs stay
	install -Dm755 $(target)/release/edns $(DESTDIR)$(prefix)/sbin/edns
	for f in config.yaml domain.yaml; do \
		test -e $(DESTDIR)/etc/edns/$$f || install -Dm644 configs/$$f $(DESTDIR)/etc/edns/$$f; done
	install -Dm644 configs/systemd/edns.service $(DESTDIR)$(prefix)/lib/systemd/system/edns.service

clean: ## remove all build results
	$(CARGO) clean
	rm -f edns

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-15s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
