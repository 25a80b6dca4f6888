# shellcheck shell=bash
# Sourced: what the crates cost. A figure is never a test that fails.

# measure BOARD DIRECTORY: what the board's guest prints is DIRECTORY/rows.
measure() {
    local board=$1 directory=$2
    mkdir "$directory"
    tests/bench/prepare "$board" "$directory"
    echo "measuring on $board ..."
    tests/guest-os/boot "$board" "$directory" >"$directory/printed" &
    wait $! || true
    tr -d '\r' <"$directory/printed" >"$directory/rows"
    if ! grep -q '^guest exited with 0' "$directory/rows"; then
        tail -n 5 "$directory/rows" "$directory/console" >&2
        give_up 'the guest failed'
    fi
}

bench() { # DIRECTORY
    local directory=$1
    mkdir "$directory"
    measure arm64.bench "$directory/6.1"
    measure arm64-6.12.bench "$directory/6.12"
    use_lints_version
    {
        cat "$directory/6.1/rows"
        sed -n 's/^\(row\t[^\t]*\t[^\t]*\)/\1, Linux 6.12/p' "$directory/6.12/rows"
    } | cargo run --quiet --locked -p udmabuf-bench -- report instructions target/bench
    echo
    echo 'streaming, with a nanosecond for an instruction, or when there is none to run:'
    sed -n 's/^stream: //p' "$directory/6.1/rows"
    echo
    echo 'the same on this computer, through an emulated engine that takes 200 us beside copying:'
    cargo run --quiet --locked --release -p udmabuf-examples --example stream -- \
        --part=65536 --delay=200 --count=5000 2>/dev/null
    echo
    sed -n 's/^tables: //p' "$directory/6.1/rows"
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
    # On a machine with other work, what the CPUs did says more than the clock.
    local TIMEFORMAT='the three crates, built from nothing by two jobs: %R s, CPUs %U s and %S s in the kernel'
    cargo fetch --quiet --locked
    time CARGO_TARGET_DIR=$1/target cargo build --quiet --locked --release --jobs 2 \
        -p udmabuf-sys -p udmabuf -p udmabuf-uio
}
