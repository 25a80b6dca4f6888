# shellcheck shell=bash
# Sourced: the crates' tests with what finds wrong accesses and races. The compiler
# is a stable one, told to behave like a nightly one.

# sanitizer_tests NAME ARGUMENT...: cargo's. Random programs, which take long, are a
# fuzz target, too; and machine code is looked at without sanitizers.
sanitizer_tests() {
    if [ "$(uname -m)" != x86_64 ]; then
        skip "$1 sanitizer" 'for x86_64 hosts'
        return
    fi
    CARGO_TARGET_DIR=$CACHE/sanitized-$1 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=$1 \
        cargo_tests "$1 sanitizer" "${@:2}" --target x86_64-unknown-linux-gnu --lib --tests \
        -p udmabuf-sys -p udmabuf -p udmabuf-uio -p udmabuf-examples -- \
        --skip random_programs --skip on_x86_64 --skip on_arm
}

# What a device owned is leaked on purpose.
address_sanitizer_tests() {
    ASAN_OPTIONS=detect_leaks=0 sanitizer_tests address
}

# This one wants a standard library built with it, and so its source. That has a
# toolchain of its own: the compiler's messages, which tests compare, quote the source
# where there is one.
# The words of `Shared` memory may change at any time: a race with the engine is what
# they are for. One device's registers are forgotten, and so its thread.
thread_sanitizer_tests() {
    local options=report_thread_leaks=0 toolchains=$CACHE/rustup said=no\ rustup
    if ! command -v rustup >/dev/null ||
        ! said=$(RUSTUP_HOME=$toolchains rustup toolchain install "$lints_version" --no-self-update \
            --profile minimal --component rust-src 2>&1); then
        skip 'thread sanitizer' "the source of Rust $lints_version cannot be had: ${said##*$'\n'}"
        return
    fi
    echo 'race:udmabuf::owner::Shared' >"$CACHE/thread-sanitizer"
    RUSTUP_HOME=$toolchains RUSTUP_TOOLCHAIN=$lints_version PROPTEST_CASES=32 RUST_BACKTRACE=0 \
        TSAN_OPTIONS=$options:suppressions=$CACHE/thread-sanitizer \
        sanitizer_tests thread -Zbuild-std
}
