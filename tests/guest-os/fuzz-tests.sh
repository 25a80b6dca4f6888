# shellcheck shell=bash
# Sourced: the fuzzer of the kernel module, and the proof that it finds faults.

# fuzz_tests DIRECTORY OPERATIONS: most of them on a fast kernel, and shares where
# each is watched, where large pages can be mapped, and where memory is scattered.
# Meanwhile the fuzz targets keep one core busy, as a board does.
fuzz_tests() {
    {
        trap 'exit 1' TERM
        passed=0 failed=0
        fuzz_targets 60
        echo "$passed $failed" >"$1/targets.counts"
    } &
    FUZZ=$2 board_tests "$1" arm64 arm64-debug arm64-6.12 arm64-smmu
    add_counts "$1/targets.counts"
}

# Breaks the module in one place after the other; each time the fuzzer, a test or the
# kernel must say so. That a board takes too long, or ends, says nothing. Before a
# board's first one, it runs the same with the module as it is, and nothing must be said.
# With a word, only those whose comment has it, or whose file.
# The places are in tests/kmod-mutations, in the format of tests/mutations, but for
# the last line, if there is one: a board, and then perhaps what has to be told:
#
#   = BOARD WORDS             by its kernel, while the fuzzer runs
#   = BOARD fuzz PART         by that part of the fuzzer
#   = BOARD test NAME         by the guest's test of that name, which alone is run
#   = BOARD test NAME; WORDS  by its kernel, while that test runs
#
# The copy is where it was the last time, for its programs are kept.
kmod_mutation_tests() { # DIRECTORY [WORD]
    local file='' from='' to='' on=arm64 what='' line copy=$CACHE/kmod-mutations
    local -A unbroken=()
    # One run at a time.
    exec 8>"$copy.lock"
    flock 8
    rm -rf -- "$copy"
    mkdir "$copy"
    git ls-files -z | xargs -0 cp --parents --preserve=timestamps -t "$copy"
    while IFS= read -r line; do
        case $line in
            '#'*) what=${line#'# '} ;;
            '- '*) from+=${from:+$'\n'}${line#- } ;;
            '+ '*) to+=${to:+$'\n'}${line#+ } ;;
            '= '*) on=${line#= } ;;
            '')
                if [ -n "$from" ] && [[ "$file $what" == *"${2-}"* ]]; then
                    kmod_mutation "$1" "$copy" "$file" "$from" "$to" "$on" "$what" </dev/null
                fi
                file='' from='' to='' on=arm64 what=''
                ;;
            *) file=$line ;;
        esac
    done < <(cat tests/kmod-mutations && echo)
    rm -rf -- "$copy"
    exec 8>&-
    if [ $((passed + failed)) = 0 ]; then
        failed=1
        echo "FAILED: no mutation has the word $2"
    fi
}

# Runs a board with the copy's module; gives what it said.
kmod_mutation_board() { # DIRECTORY COPY BOARD TEST, or nothing for the fuzzer
    rm -rf -- "${1:?}/$3"
    (
        passed=0 failed=0 qemu=''
        export SEED=1 SOURCE=$2
        case $3,$4 in
            *,'faults of loading') export ONLY=$4 WHOLE=yes ;;
            *,?*) export ONLY=$4 ;;
            arm64, | arm64-debug,) export FUZZ=30000 ;;
            # These run a tenth of it, in seconds.
            *) export FUZZ=3000000 ;;
        esac
        cd "$2"
        board_test "$3" "$1/$3" 2>&1
        echo "$3: $passed passed, $failed failed"
    )
}

# With the module as it is, the board passes; tried once.
kmod_unbroken_passes() { # DIRECTORY COPY BOARD TEST
    local run="$3${4:+, $4}"
    if [ -z "${unbroken[$run]-}" ]; then
        unbroken[$run]=no
        output=$(kmod_mutation_board "$@")
        ! grep -q "^$3: [1-9][0-9]* passed, 0 failed$" <<<"$output" || unbroken[$run]=yes
        [ "${unbroken[$run]}" = yes ] && echo "ok $run: passes unbroken" || printf '%s\n' "$output"
    fi
    [ "${unbroken[$run]}" = yes ]
}

kmod_mutation() { # DIRECTORY COPY FILE FROM TO 'BOARD [WORDS]' WHAT
    local whole name="$3: $7" output found board=${6%% *} only='' said='fuzz [^:]*\|board: .*the kernel said: [^;]*'
    case $6 in
        *' test '*'; '*)
            only=${6#* test } said="board: .*the kernel said: .*${6#*; }[^;]*"
            only=${only%%; *}
            ;;
        *' test '*) only=${6#* test } said=$only ;;
        *' fuzz '*) said=${6#* } ;;
        *' '*) said="board: .*the kernel said: .*${6#* }[^;]*" ;;
    esac
    if ! kmod_unbroken_passes "$1" "$2" "$board" "$only"; then
        failed=$((failed + 1))
        echo "FAILED $name: $board${only:+, $only} fails without it"
        return
    fi
    whole=$(<"$2/$3")
    if [[ $whole != *"$4"* || ${whole#*"$4"} == *"$4"* ]]; then
        failed=$((failed + 1))
        echo "FAILED $name: the text is not there, or more than once"
        return
    fi
    printf '%s\n' "${whole/"$4"/"$5"}" >"$2/$3"
    output=$(kmod_mutation_board "$1" "$2" "$board" "$only")
    printf '%s\n' "$whole" >"$2/$3"
    # A module that does not even load was not tried.
    found=$(grep -v 'FAILED fuzz load:' <<<"$output" | sed -n "s/^$board: FAILED \($said\)[:;].*/\1/p" | head -1)
    if [ -n "$found" ]; then
        passed=$((passed + 1))
        echo "ok $name: found by $found"
    else
        failed=$((failed + 1))
        echo "FAILED $name: nothing found it, or it does not build"
        grep "^$board: FAILED" <<<"$output" || true
    fi
}
