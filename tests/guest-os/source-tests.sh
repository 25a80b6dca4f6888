# shellcheck shell=bash
# Sourced: the kernel module's source, against other kernels and against rules.

# item FUNCTION ARGUMENT...: one of items.sh, in a process that holds the lock.
item() {
    bash -euc '. "$SOURCE/tests/guest-os/items.sh"; "$@"' item "$@"
}

# Every kernel that some root has headers of; without a warning.
kernel_tests() {
    local release arch kernels headers
    for release in bullseye bookworm trixie forky; do
        kernels='' headers=''
        # shellcheck disable=SC1090
        . "tests/guest-os/roots/$release"
        for arch in $headers $kernels; do
            step "module for $release $arch" item modules "$release" "$arch"
        done
    done
}

source_tests() {
    local root schema udev
    if root=$(item root bookworm) && schema=$(item schema); then
        step checkpatch tests/guest-os/in-root "$root" "$SOURCE/tests/guest-os/check-style"
        step sparse tests/guest-os/in-root "$root" "$SOURCE/tests/guest-os/check-sparse"
        step 'device-tree binding' tests/guest-os/check-binding "$schema"
    else
        failed=$((failed + 1))
        echo 'FAILED source: its tools could not be had'
    fi
    if udev=$(item udev); then
        step 'udev rules' tests/guest-os/check-rules "$udev"
    else
        failed=$((failed + 1))
        echo 'FAILED udev rules: udev could not be had'
    fi
}
