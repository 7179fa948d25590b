# SPDX-License-Identifier: MPL-2.0
#
# Two commands matter: `make run` and `make test`. The work is done by `cargo xtask` (osdk/); what is here makes
# sure that its toolchain is there, and turns `make`'s variables into its options.

.DEFAULT_GOAL := help

nightly := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
stable := 1.95.0
export PATH := $(CURDIR)/target/tools/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
cargo := rustup run $(nightly) cargo
xtask := $(cargo) xtask

# CMD is handed over exactly as it was typed: make must not expand the dollars in it.
unexport CMD
export TESSERA_CMD := $(value CMD)

# The machine and what is in it: see `make help`.
machine := $(if $(SMP),--smp $(SMP)) $(if $(MEM),--mem $(MEM)) $(if $(filter-out 0,$(ICOUNT)),--icount) \
	$(if $(ROOT),--root $(ROOT)) $(if $(ADD),--add '$(ADD)') $(if $(LOG),--log $(LOG)) \
	$(if $(TIMEOUT),--timeout $(TIMEOUT)) $(if $(filter-out 0,$(V)),--verbose)

# ---- Run --------------------------------------------------------------------------------------------------------

# make ends with the status of the command in the guest if it can: see osdk/make-exit.c.
ifneq ($(filter run,$(MAKECMDGOALS)),)
-load target/make_exit.so

target/make_exit.so: osdk/make-exit.c
	@osdk/setup.sh run
	@mkdir -p target && cc -shared -fPIC -O -o $@ $< 2>/dev/null || :
endif

.PHONY: help
help: ## Show this list
	@echo "make TARGET [VARIABLE=value]..."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
	@echo
	@echo "  CMD='...'       run this command line instead of an interactive shell; end with its status"
	@echo "  ROOT=debian     Debian's own programs instead of busybox"
	@echo "  ADD=dir         put the files of a folder into the root"
	@echo "  SMP=2 MEM=512M  the machine's processors and memory (default: 1 and 1G)"
	@echo "  ICOUNT=1        let time be the number of instructions"
	@echo "  TIMEOUT=60      give up after so many seconds"
	@echo "  PART=wall       what to measure anew: instructions, wall, two (default: all of them)"
	@echo "  LOG=debug V=1   the kernel's log level; show its log afterwards"
	@echo "  OP=fork_1000    the operation to profile"
	@echo "  STEPS=10000     so many random memory calls"
	@echo "  SEED=1          the same ones as another time"

.PHONY: run
run: run-and-keep-status ## Boot to a shell, or run CMD='...' under one
	@$(exit-as target/run/status)exit $$(cat target/run/status)

.PHONY: run-and-keep-status
run-and-keep-status: setup-run
	@mkdir -p target/run && rm -f target/run/status && { $(xtask) run $(machine); echo $$? > target/run/status; }

# ---- Test -------------------------------------------------------------------------------------------------------

.PHONY: test
test: setup-test ## Everything: lint, host tests, ktests, the ABI suite, real programs
	@$(xtask) test

.PHONY: lint
lint: setup-test ## Formatting, clippy and rustdoc, warnings denied
	@$(xtask) test --only lint

.PHONY: test-host
test-host: setup-test ## The tests that run on the host
	@$(xtask) test --only host

.PHONY: test-hosted
test-hosted: setup-run ## A million random calls on the hosted backend and on this machine's Linux
	@HOSTED_STEPS=1000000 $(cargo) test -p vmar-hosted --test hosted -- --nocapture linux::

.PHONY: test-guest
test-guest: setup-guest ## Programs for aarch64 and riscv64 on the hosted backend, in an emulator
	@cd hosted/examples/run-guest && export CARGO_TARGET_DIR=$(CURDIR)/target/guest && $(cargo) fmt --check && \
		$(cargo) clippy --locked --release --all-targets -- -D warnings && $(cargo) test --locked --release

.PHONY: ktest
ktest: setup-test ## The tests that run inside the kernel, in QEMU
	@$(xtask) test --only ktest

.PHONY: test-abi
test-abi: setup-test ## The ABI suite on Tessera, with one processor and with two
	@$(xtask) test --only abi-build --only abi --only abi-smp

.PHONY: test-abi-host
test-abi-host: setup-test ## The ABI suite on this machine's Linux, which it must agree with
	@$(xtask) test --only abi-build --only abi-host

.PHONY: test-abi-linux
test-abi-linux: setup-test ## The memory cases of the ABI suite on Debian's Linux, in the same QEMU
	@$(xtask) test --only abi-build --only abi-linux

.PHONY: abi-table
abi-table: setup-test ## The table of the memory ABI, from the suite on this machine, on Debian's Linux and on Tessera
	@$(xtask) test --only abi-build --only abi-host --only abi-linux --only abi
	@$(xtask) abi-table

.PHONY: test-programs
test-programs: setup-test ## Real programs on Tessera, and somebody at the terminal
	@$(xtask) test --only programs

.PHONY: test-flat
test-flat: setup-test ## Mapping without an MMU: the firmware of a board, in QEMU
	@$(xtask) test --only flat

.PHONY: fuzz
fuzz: setup-test ## A million random memory calls, compared with Debian's Linux; STEPS=... SEED=...
	@$(xtask) fuzz --steps $(or $(STEPS),1000000) $(if $(SEED),--seed $(SEED))

.PHONY: fuzz-framework
fuzz-framework: setup-fuzz ## New paths through the framework, looked for with cargo-fuzz; FOR=seconds
	@$(xtask) fuzz-framework --for $(or $(FOR),300)

.PHONY: hostile
hostile: setup-test ## Random system calls for ten minutes on two processors; FOR=seconds SEED=...
	@cd test && rustup run $(stable) cargo build --quiet --release -p hostile --target x86_64-unknown-linux-musl
	@# What processes happen to write to the console is not for a terminal.
	@mkdir -p target/run && rm -f target/run/hostile && { TESSERA_CMD='hostile random $(or $(FOR),600) $(SEED)' $(xtask) run --smp 2 --mem 512M \
		--program test/target/x86_64-unknown-linux-musl/release/hostile </dev/null; echo $$? > target/run/hostile; } | \
		LC_ALL=C grep -aoE --line-buffered '(hostile|usage): [ -~]*'; exit $$(cat target/run/hostile)

.PHONY: selftests
selftests: setup-suites ## Linux's own tests of memory on Debian's Linux and on Tessera; writes their table
	@$(xtask) suite selftests --write

.PHONY: stress
stress: setup-suites ## stress-ng's stressors one by one on both kernels; writes their table
	@$(xtask) suite stress --write

.PHONY: stress-mixed
stress-mixed: setup-suites ## All of them at once for ten minutes on two processors, on both kernels; writes their table
	@$(xtask) suite mixed --write

.PHONY: test-fresh
test-fresh: setup-fresh ## Try a clean clone in a new Debian 12 root (needs root)
	@osdk/fresh.sh

.PHONY: miri
miri: setup-run ## All of the framework's unit tests under miri; make test runs one of six
	@$(xtask) miri

# ---- Measure ----------------------------------------------------------------------------------------------------

.PHONY: bench
bench: setup-bench ## Memory operations beside Debian's Linux; OP='NAME...' prints only these
	@$(xtask) bench $(foreach part,$(PART),--part $(part)) -- $(OP)

.PHONY: bench-check
bench-check: setup-bench ## No memory operation takes 5 % more instructions than its budget
	@$(xtask) bench-check -- $(OP)

.PHONY: bench-budget
bench-budget: setup-bench ## Lower the budgets of what has become faster, add what is new
	@$(xtask) bench-check --lower

.PHONY: bench-host
bench-host: setup-run ## The interval map beside other people's, and two threads in regions
	@$(cargo) bench -p vmar --bench interval_map --bench regions

.PHONY: profile
profile: setup-test ## Where an operation's instructions go, on Tessera and on Linux: OP=fork_1000
	@$(if $(OP),,$(error OP=... must name an operation))$(xtask) profile $(OP)

# ---- The rest ---------------------------------------------------------------------------------------------------

.PHONY: docs
docs: setup-docs ## Build the book and the API documentation
	@mdbook build docs
	@$(cargo) doc --workspace --no-deps --target x86_64-unknown-none --exclude xtask --exclude tessera \
		--exclude vmar-hosted
	@$(cargo) doc -p vmar-hosted --no-deps
	@RUSTDOCFLAGS='-A rustdoc::private-intra-doc-links' \
		$(cargo) doc -p tessera --document-private-items --no-deps --target x86_64-unknown-none

.PHONY: initramfs
initramfs: setup-run ## Pack the root without starting anything
	@$(xtask) initramfs $(if $(ROOT),--root $(ROOT)) $(if $(ADD),--add '$(ADD)')

.PHONY: setup-run setup-test setup-bench setup-docs setup-fresh setup-fuzz setup-guest setup-suites
setup-run setup-test setup-bench setup-docs setup-fresh setup-fuzz setup-guest setup-suites: setup-%:
	@osdk/setup.sh $*
