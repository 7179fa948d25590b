#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
#
# Brings what Tessera needs onto this machine, and says what it is doing while it does it.
#
#     osdk/setup.sh run     what `make run` needs: a linker, QEMU, the toolchain, cargo-osdk
#     osdk/setup.sh test    the same, and the toolchain that the programs for the guest are built with
#     osdk/setup.sh bench   the same as test: Debian's Linux is fetched by what measures it, and never installed
#     osdk/setup.sh guest   what `make test-guest` needs: a linker, the toolchain, cross compilers, what builds unicorn
#     osdk/setup.sh suites  the same as run, and what unpacks and builds Linux's own tests
#     osdk/setup.sh fuzz    what `make fuzz-framework` needs: a linker, the toolchains, cargo-fuzz
#     osdk/setup.sh docs    the same as run, and mdbook
#     osdk/setup.sh fresh   the same as run, and debootstrap
#
# What is there already is skipped: with everything there this takes a few milliseconds. Everything it
# says goes to standard error. It stops with one line, and status 1, at the first thing that cannot be had.

set -eu

verb=${1:-run}
root=$(cd "$(dirname "$0")/.." && pwd)
log=$root/target/setup.log
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
PATH=$root/target/tools/bin:$cargo_home/bin:$PATH
export PATH

# The versions, each in its one place.
nightly=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
components=$(sed -n 's/^components = \[\(.*\)\]/\1/p' "$root/rust-toolchain.toml" | tr -d '",')
targets=$(sed -n 's/^targets = \[\(.*\)\]/\1/p' "$root/rust-toolchain.toml" | tr -d '",')
stable=1.95.0
cargo_osdk=0.19.0
mdbook=0.4.52
cargo_fuzz=0.13.1

say() { echo "setup: $*" >&2; }
stop() { echo "setup: error: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with its output in the log; a failure shows the end of it.
quietly() {
    mkdir -p "$root/target"
    if ! "$@" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        return 1
    fi
}

# ---- Packages -------------------------------------------------------------------------------------------

is_debian_12() { [ -r /etc/os-release ] && (. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ]); }

# Collects the names of the packages whose command is not there.
missing=
need() { has "$1" || missing="$missing $2"; }

need cc gcc
if [ "$verb" = guest ]; then
    need cmake cmake
    need make make
    need bzip2 bzip2
    for clang in /usr/lib/llvm-*/lib/libclang.so /usr/lib/llvm-*/lib/libclang-*.so.1; do
        [ ! -e "$clang" ] || break
    done
    [ -e "$clang" ] || missing="$missing libclang-dev"
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need riscv64-linux-gnu-gcc gcc-riscv64-linux-gnu
    [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing="$missing libc6-dev-arm64-cross"
    [ -e /usr/riscv64-linux-gnu/include/stdio.h ] || missing="$missing libc6-dev-riscv64-cross"
elif [ "$verb" = fuzz ]; then
    need g++ g++
else
    need qemu-system-x86_64 qemu-system-x86
fi
[ "$verb" != test ] || need qemu-system-arm qemu-system-arm
if [ "$verb" = suites ] || [ "$verb" = test ]; then
    need make make
    need xz xz-utils
fi
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki ] || [ -e /etc/ssl/cert.pem ] || missing="$missing ca-certificates"
need dpkg-deb dpkg
need apt-get apt
[ "$verb" != fresh ] || need debootstrap debootstrap

if [ -n "$missing" ]; then
    is_debian_12 || stop "this is not Debian 12; install these first (Debian's names):$missing"
    if [ "$(id -u)" = 0 ]; then as_root=
    elif has sudo; then as_root=sudo
    else stop "packages are missing and there is no sudo; as root: apt-get install$missing"; fi
    say "installing packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    quietly $as_root apt-get -q update || stop "apt-get update failed: are there package sources, and a network?"
    # shellcheck disable=SC2086 # each word is a package
    quietly $as_root apt-get -q install -y --no-install-recommends $missing || stop "apt-get could not install:$missing"
fi

# ---- Toolchains -----------------------------------------------------------------------------------------

# Tells whether a toolchain has all of the named parts, from the list that rustup keeps in it.
toolchain_has() {
    for list in "$rustup_home"/toolchains/"$1"-*/lib/rustlib/components; do
        [ ! -r "$list" ] || break
    done
    [ -r "$list" ] || return 1
    shift
    for part; do
        grep -q -e "^$part\$" -e "^$part-" "$list" || return 1
    done
}

has rustup || stop "rustup is missing; install it the way its authors say, then try again"

parts=
options=
for c in $components; do
    case $c in rust-src) parts="$parts $c" ;; *) parts="$parts $c-preview" ;; esac
    options="$options -c $c"
done
for t in $targets; do
    parts="$parts rust-std-$t"
    options="$options -t $t"
done
# shellcheck disable=SC2086 # each word is a part or an option
if ! toolchain_has "$nightly" $parts; then
    say "installing the Rust toolchain $nightly"
    rustup toolchain install "$nightly" --profile minimal --no-self-update $options >&2 ||
        stop "rustup could not install $nightly"
fi
if { [ "$verb" = test ] || [ "$verb" = bench ] || [ "$verb" = fuzz ]; } && ! toolchain_has "$stable" rust-std-x86_64-unknown-linux-musl rust-std-thumbv7m-none-eabi clippy-preview rustfmt-preview; then
    say "installing the Rust toolchain $stable, for the programs that run on the kernel and for the firmware"
    rustup toolchain install "$stable" --profile minimal --no-self-update -c clippy -c rustfmt \
        -t x86_64-unknown-linux-musl -t thumbv7m-none-eabi >&2 || stop "rustup could not install $stable"
fi

# ---- Tools built from source ----------------------------------------------------------------------------

# Builds a crate's program: at the user's usual place if they have none of it, else beside this clone.
tool() { # crate version [toolchain]
    for list in "$cargo_home/.crates.toml" "$root/target/tools/.crates.toml"; do
        ! grep -q "^\"$1 $2 " "$list" 2>/dev/null || return 0
    done
    where=$cargo_home
    ! has "$1" || where=$root/target/tools
    say "building $1 $2 (this takes some minutes)"
    # In a folder of its own, so that nothing of this workspace has a say in how it is built.
    mkdir -p "$root/target/tools"
    (cd "$root/target/tools" && CARGO_TARGET_DIR=$root/target/tools/build \
        rustup run "${3:-$nightly}" cargo install "$1" --version "$2" --locked --quiet --root "$where" >&2) ||
        stop "$1 $2 could not be built: see above"
    rm -rf "$root/target/tools/build"
}

[ "$verb" = guest ] || [ "$verb" = fuzz ] || tool cargo-osdk "$cargo_osdk"
[ "$verb" != docs ] || tool mdbook "$mdbook"
# Not with the nightly: one of its dependencies takes that for another one.
[ "$verb" != fuzz ] || tool cargo-fuzz "$cargo_fuzz" "$stable"
