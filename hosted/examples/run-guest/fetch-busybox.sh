#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
#
# Brings busybox for the guests:
#
#     fetch-busybox.sh FOLDER     makes FOLDER/busybox.aarch64 and FOLDER/busybox.riscv64
#
# Debian has a static one for arm64. Debian 12 has no riscv64, so that one is built from Debian's source. Packages are fetched as the
# machine's own sources say, with lists of our own, and nothing is installed. What is there already is left alone.

set -eu

folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$folder/busybox
log=$folder/busybox.log

say() { echo "run-guest: $*" >&2; }
stop() { echo "run-guest: error: $*; see $log" >&2; exit 1; }

# apt-get with nothing installed and lists of its own, for one kind of package.
apt() { # kind, then what apt-get is given
    kind=$1
    shift
    apt-get -q -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o "Dir::State::status=$work/status" \
        -o "Dir::State::lists=$work/$kind/lists" -o "Dir::Cache=$work/$kind" -o Dir::Etc::sourcelist=/dev/null \
        -o "Dir::Etc::sourceparts=$work/$kind/sources" -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        "$@" >>"$log" 2>&1
}

# Copies the machine's sources of Debian, for one kind of package.
sources() { # kind
    mkdir -p "$work/$1/sources" "$work/$1/lists/partial" "$work/$1/archives/partial"
    : >"$work/status"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -r "$file" ] || sed -n "s/^deb \(.*debian.*\)/$1 \1/p" "$file" >"$work/$1/sources/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/debian.sources; do
        [ ! -r "$file" ] || sed "s/^Types:.*/Types: $1/" "$file" >"$work/$1/sources/$(basename "$file")"
    done
}

if [ ! -x "$folder/busybox.aarch64" ]; then
    say "fetching Debian's busybox-static for arm64"
    : >"$log"
    sources deb
    apt deb update || stop "the lists for arm64 cannot be fetched"
    (cd "$work/deb/archives" && apt deb download busybox-static) || stop "busybox-static cannot be fetched"
    dpkg-deb -x "$work"/deb/archives/busybox-static_*_arm64.deb "$work/arm64" || stop "busybox-static cannot be unpacked"
    cp "$work/arm64/bin/busybox" "$folder/busybox.part"
    mv "$folder/busybox.part" "$folder/busybox.aarch64"
fi

if [ ! -x "$folder/busybox.riscv64" ]; then
    say "building busybox for riscv64 from Debian's source"
    : >"$log"
    sources deb-src
    apt deb-src update || stop "the lists of sources cannot be fetched"
    mkdir -p "$work/source"
    (cd "$work/source" && apt deb-src --download-only source busybox) || stop "the source of busybox cannot be fetched"
    mkdir -p "$work/riscv64"
    tar -xf "$work"/source/busybox_*.orig.tar.* -C "$work/riscv64" --strip-components=1 || stop "the source cannot be unpacked"
    cd "$work/riscv64"
    {
        make allnoconfig
        for option in STATIC LFS BUSYBOX FEATURE_PREFER_APPLETS FEATURE_SH_STANDALONE LONG_OPTS SH_IS_ASH ASH ASH_ECHO ASH_PRINTF ASH_TEST \
            SH_MATH_SUPPORT AWK CAT CUT DATE DD ECHO EXPR FACTOR FALSE FIND GREP GUNZIP GZIP HEAD LS MD5SUM MKDIR MV \
            CP PRINTF RM SED SEQ SHA256SUM SORT TAIL TEST TR TRUE UNAME WC FEATURE_SEAMLESS_GZ FEATURE_FANCY_HEAD; do
            sed -i "s/^# CONFIG_$option is not set/CONFIG_$option=y/" .config
        done
        yes '' | make oldconfig
        # Segments that suit pages of up to 64 KiB.
        make -j2 CROSS_COMPILE=riscv64-linux-gnu- EXTRA_CFLAGS=-O1 EXTRA_LDFLAGS=-Wl,-z,max-page-size=65536 busybox
    } >>"$log" 2>&1 || stop "busybox cannot be built"
    cp busybox "$folder/busybox.part"
    mv "$folder/busybox.part" "$folder/busybox.riscv64"
fi
