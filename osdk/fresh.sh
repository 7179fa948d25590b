#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
#
# Tries what a new user would do: a new Debian 12 root with git, make and rustup and nothing else, a clean clone
# of the last commit, and `make run CMD='echo ok'` in it. With FULL=1, `make test` as well.
#
# Needs root (debootstrap, chroot), a network, some GiB, and a quarter of an hour. The new root is target/fresh;
# KEEP=1 leaves it there. From this machine it takes only what reaches the network: the resolver's settings,
# certificates and proxy variables.

set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
new=$here/target/fresh

say() { echo "fresh: $*" >&2; }
stop() { echo "fresh: error: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || stop "debootstrap and chroot need root"
rustup=$(command -v rustup) || stop "rustup is missing"

unmount() {
    for place in dev/pts proc; do
        ! mountpoint -q "$new/$place" || umount "$new/$place" || stop "target/fresh/$place cannot be unmounted"
    done
}

leave() {
    unmount
    [ "${KEEP:-0}" != 0 ] || rm -rf --one-file-system "$new"
}

unmount
trap leave EXIT
trap 'exit 130' INT TERM

if [ ! -e "$new/etc/debian_version" ]; then
    say "making a Debian 12 root"
    # One that was never finished is of no use.
    rm -rf --one-file-system "$new"
    mkdir -p "$new"
    debootstrap --variant=minbase --include=git,make,ca-certificates bookworm "$new" >"$new.log" 2>&1 ||
        { tail -n 5 "$new.log" >&2; stop "debootstrap failed: see target/fresh.log"; }
fi

mount -t proc proc "$new/proc"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$new/dev/pts"
ln -sf pts/ptmx "$new/dev/ptmx"
cp -L /etc/resolv.conf /etc/hosts "$new/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$new/etc/ssl/certs/"
cp -L "$rustup" "$new/usr/local/bin/rustup-init"

# The clone: what is committed, nothing else.
rm -rf "$new/root/tessera"
git clone -q --no-hardlinks "$here" "$new/root/tessera"

# Runs a command line in the clone, in the new root.
inside() {
    chroot "$new" /usr/bin/env -i HOME=/root TERM=dumb LANG=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        ${no_proxy:+no_proxy="$no_proxy"} /bin/sh -c "cd /root/tessera && $1"
}

say "installing rustup, without a toolchain"
inside 'rustup-init -y -q --default-toolchain none --no-modify-path --no-update-default-toolchain' >"$new.log" 2>&1 ||
    { tail -n 5 "$new.log" >&2; stop "rustup-init failed"; }

say "make run CMD='echo ok'"
output=$(inside "make run CMD='echo ok' TIMEOUT=120 </dev/null") || stop "make run ended with $?"
[ "$output" = ok ] || stop "make run said '$output', not 'ok'"
say "the same again, with a status"
status=0
inside "make run CMD='exit 7' TIMEOUT=120 </dev/null" || status=$?
[ "$status" = 7 ] || stop "make run ended with $status, not 7"
if [ "${FULL:-0}" != 0 ]; then
    say "make test"
    inside "make test </dev/null" || stop "make test failed"
fi
echo "fresh: ok"
