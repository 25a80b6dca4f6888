# shellcheck shell=bash
# Sourced: the fuzzer of the kernel module, and the proof that it finds faults.

# fuzz_tests DIRECTORY OPERATIONS: most of them on a fast kernel, and a share where
# each is watched.
fuzz_tests() {
    FUZZ=$2 board_tests "$1" arm64 arm64-debug
}

# Breaks the module in one place after the other; each time the fuzzer must say so.
# With a word, only those whose comment has it, or whose file.
# The places are in tests/kmod-mutations, in the format of tests/mutations, but for
# the last line, if there is one: a board, and what its kernel has to say.
# The copy is where it was the last time, for its programs are kept.
kmod_mutation_tests() { # DIRECTORY [WORD]
    local file='' from='' to='' on=arm64 what='' line copy=$CACHE/kmod-mutations
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

kmod_mutation() { # DIRECTORY COPY FILE FROM TO 'BOARD [WORDS]' WHAT
    local whole name="$3: $7" output found board=${6%% *} said='fuzz [^:]*\|board'
    [ "$board" = "$6" ] || said="board: .*the kernel said: .*${6#* }[^;]*"
    whole=$(<"$2/$3")
    if [[ $whole != *"$4"* || ${whole#*"$4"} == *"$4"* ]]; then
        failed=$((failed + 1))
        echo "FAILED $name: the text is not there, or more than once"
        return
    fi
    printf '%s\n' "${whole/"$4"/"$5"}" >"$2/$3"
    rm -rf -- "${1:?}/$board"
    output=$(passed=0 failed=0 qemu='' && export FUZZ=30000 SEED=1 SOURCE=$2 && cd "$2" && board_test "$board" "$1/$board" 2>&1)
    printf '%s\n' "$whole" >"$2/$3"
    found=$(sed -n "s/^$board: FAILED \($said\)[:;].*/\1/p" <<<"$output" | head -1)
    if [ -n "$found" ] && ! grep -q 'could not be prepared' <<<"$output"; then
        passed=$((passed + 1))
        echo "ok $name: found by $found"
    else
        failed=$((failed + 1))
        echo "FAILED $name: nothing found it, or it does not build"
    fi
}
