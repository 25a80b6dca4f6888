# shellcheck shell=bash
# Sourced: the tests that need no kernel of their own.

# skip NAME REASON: what cannot be tested here, which the last line counts.
skip() {
    skipped=$((skipped + 1))
    echo "skipped $1: $2"
}

# step NAME COMMAND...: one test; its output matters only if it fails.
step() {
    local output begun=$SECONDS
    echo "$1 ..."
    if output=$("${@:2}" 2>&1); then
        passed=$((passed + 1))
        echo "ok $1: $((SECONDS - begun)) s"
    else
        printf '%s\n' "$output"
        failed=$((failed + 1))
        echo "FAILED $1: output above"
    fi
}

# cargo_tests NAME ARGUMENT...: counts cargo's tests one by one.
cargo_tests() {
    local output counts status=0 name=$1 begun=$SECONDS
    echo "$name ..."
    output=$(cargo test --locked --no-fail-fast "${@:2}" 2>&1) || status=$?
    counts=$(sed -n 's/^test result: [a-zA-Z]*\. \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' <<<"$output" |
        awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
    [ $status = 0 ] || printf '%s\n' "$output"
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    echo "$name: ${counts% *} passed, ${counts#* } failed, $((SECONDS - begun)) s"
    # It did not compile, or a test program died, or cargo counts otherwise now.
    if [ "${counts#* }" = 0 ] && { [ $status != 0 ] || [ "${counts% *}" = 0 ]; }; then
        failed=$((failed + 1))
        echo "FAILED $name: exit status $status, no test failed"
    fi
}

host_tests() {
    step fmt cargo fmt --all --check
    step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
    step doc env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
    # As somebody else's dependency, without what the tests add to their features.
    step features cargo check --quiet --locked --manifest-path udmabuf-uio/Cargo.toml --features tokio
    step fuzz cargo check --locked --manifest-path fuzz/Cargo.toml
    step 'kernel log' tests/guest-os/check-log
    step loopback cargo run --quiet --locked --example loopback
    step 'loopback --break-sync' cargo run --quiet --locked --example loopback -- --break-sync
    step stream cargo run --quiet --locked --example stream -- adversary --engines=2 --delay=100 --count=200
    for model in axidma zdma edu; do
        step "stream $model-model" cargo run --quiet --locked --example stream -- "$model-model" --engines=2 --count=200
    done
    step axidma cargo run --quiet --locked --example axidma
    step accelerator cargo run --quiet --locked --example accelerator
    cargo_tests 'cargo test' --workspace
    address_sanitizer_tests
    fuzz_targets 5
}
