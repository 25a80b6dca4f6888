# shellcheck shell=bash
# Sourced: the fuzz targets of the crates, by libFuzzer, with AddressSanitizer.
# The compiler is a stable one, told to behave like a nightly one, of which no more
# is needed than `-Zsanitizer`: what cargo-fuzz does, without cargo-fuzz.

fuzz_target_dir=$CACHE/fuzz-targets
# As cargo-fuzz passes them: coverage by edge and by comparison.
fuzz_flags='-Zsanitizer=address -Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing'
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    fuzz_flags+=" -Cllvm-args=-sanitizer-coverage-$flag"
done
# A host's linker may keep sections of counters apart.
export ASAN_OPTIONS=detect_odr_violation=0

# nightly_cargo ARGUMENT...: cargo, with a compiler that takes -Z.
nightly_cargo() {
    RUSTC_BOOTSTRAP=1 cargo "$@"
}

build_fuzz_targets() {
    CARGO_TARGET_DIR=$fuzz_target_dir RUSTFLAGS=$fuzz_flags nightly_cargo build --quiet \
        --release --locked --target x86_64-unknown-linux-gnu --manifest-path fuzz/Cargo.toml
}

# fuzz_target NAME SECONDS: from its seeds; what it finds new is not kept.
fuzz_target() {
    local found scratch='' status=0
    found=$(mktemp -d)
    # For a target's own files: where there is no disk behind it, if there is such a place.
    [ ! -d /dev/shm ] || scratch=/dev/shm
    scratch=$(TMPDIR=${scratch:-${TMPDIR-/tmp}} mktemp -d)
    TMPDIR=$scratch RUST_BACKTRACE=0 "$fuzz_target_dir/x86_64-unknown-linux-gnu/release/$1" -max_total_time="$2" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" \
        "$found" "fuzz/seeds/$1" >"$found.log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")
    if [ $status != 0 ]; then
        tail -n 60 "$found.log"
        # The input, so that it can be had again: base64 -d, then run the target on it.
        find "$found" -name 'crash-*' -o -name 'timeout-*' -o -name 'oom-*' | while read -r input; do
            echo "${input##*/}: $(base64 -w 0 "$input")"
        done
    fi
    rm -rf -- "$found" "$found.log" "$scratch"
    return $status
}

# fuzz_targets SECONDS: each target for so long.
fuzz_targets() {
    local target executions=''
    [ "$(uname -m)" = x86_64 ] || { skip 'fuzz targets' 'for x86_64 hosts' && return; }
    step 'fuzz targets' build_fuzz_targets
    for target in fuzz/fuzz_targets/*.rs; do
        target=${target##*/}
        target=${target%.rs}
        echo "fuzz $target ..."
        if fuzz_target "$target" "$1"; then
            passed=$((passed + 1))
            echo "ok fuzz $target: $executions executions"
        else
            failed=$((failed + 1))
            echo "FAILED fuzz $target: output above"
        fi
    done
}
