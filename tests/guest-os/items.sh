# shellcheck shell=bash
# Sourced: what is made once and kept. Each function prints the path of an item;
# in a root, and outside, $CACHE is the same.
here=$SOURCE/tests/guest-os
cd "$SOURCE"

# One run at a time makes things.
exec 9>"$CACHE/lock"
flock 9
# Roots are large, and a changed recipe leaves the one before it behind.
find "$CACHE" -ignore_readdir_race -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf --one-file-system -- {} + || true

root() { # RELEASE
    "$here/cached" "root-$1" tests/guest-os/{make-root,fetch-kernel,"roots/$1"} -- \
        "$here/make-root" "$1"
}

# kernel RELEASE ARCHITECTURE [CONFIG]: as seen from inside the root of the release.
kernel() {
    if [ -z "${3-}" ]; then
        echo "/kernel/$2"
    else
        "$here/cached" "kernel-$2" tests/guest-os/{make-kernel,architecture.sh} "$3" -- \
            "$here/in-root" "$(root "$1")" "$here/make-kernel" "$2" "$3"
    fi
}

# modules RELEASE ARCHITECTURE [CONFIG]: of that kernel.
modules() {
    local root kernel sources
    root=$(root "$1")
    kernel=$(kernel "$@")
    mapfile -t sources < <(find kmod tests/modules -type f \( -name '*.[ch]' ! -name '*.mod.c' -o -name Makefile -o -name Kbuild \) | sort)
    "$here/cached" "modules-$1-$2" tests/guest-os/{make-modules,architecture.sh} "${sources[@]}" -- \
        "$here/in-root" "$root" "$here/make-modules" "$2" "$kernel" "${sources[@]}"
}

vfio() { # RELEASE ARCHITECTURE
    "$here/cached" "vfio-$1-$2" tests/guest-os/{make-vfio,architecture.sh} -- \
        "$here/in-root" "$(root "$1")" "$here/make-vfio" "$2"
}

schema() {
    "$here/cached" schema tests/guest-os/make-schema -- "$here/make-schema"
}

# A root for `udevadm` alone.
udev() {
    "$here/cached" udev tests/guest-os/make-udev -- "$here/make-udev"
}
