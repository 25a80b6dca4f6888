# shellcheck shell=bash
# Sourced: what the crates cost. A figure is never a test that fails.

bench() { # DIRECTORY
    local directory=$1
    mkdir "$directory"
    tests/bench/prepare "$directory"
    echo 'measuring ...'
    tests/guest-os/boot arm64.bench "$directory" >"$directory/rows" &
    wait $! || true
    if ! grep -q '^guest exited with 0' "$directory/rows"; then
        tail -n 5 "$directory/rows" "$directory/console" >&2
        give_up 'the guest failed'
    fi
    use_lints_version
    cargo run --quiet --locked -p udmabuf-bench -- report instructions target/bench <"$directory/rows"
    echo
    weigh
    build_time "$directory"
    echo
    CARGO_TARGET_DIR=$PWD/target/bench-host cargo bench --quiet --locked \
        --manifest-path tests/bench/host/Cargo.toml -- --quick --noplot
}

# A program of the profile `small`, static.
weigh() {
    local target=aarch64-unknown-linux-musl
    if ! command -v rustup >/dev/null || ! rustup --quiet target add $target; then
        echo "the size of zdma: $target cannot be had from rustup"
        return
    fi
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld cargo build --quiet --locked \
        --profile small --target $target -p udmabuf-examples --example zdma
    echo "zdma, static and stripped, for arm64: $(stat -c %s target/$target/small/examples/zdma) bytes"
}

build_time() { # DIRECTORY
    local start
    cargo fetch --quiet --locked
    start=$(date +%s%N)
    CARGO_TARGET_DIR=$1/target cargo build --quiet --locked --release --jobs 2 \
        -p udmabuf-sys -p udmabuf -p udmabuf-uio
    echo "the three crates, built from nothing by two jobs: $((($(date +%s%N) - start) / 1000000)) ms"
}
