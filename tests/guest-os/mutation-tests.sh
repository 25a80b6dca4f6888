# shellcheck shell=bash
# Sourced: breaks the crates in one place after the other; each time a test
# must fail. As it is, that test must have passed; a broken one gets ten times as long,
# and half a minute more, so one that never ends has failed, too, and is said to. The
# places are in tests/mutations, one below the other:
#
#   FILE
#   - text that is in FILE once; more such lines are more lines of it
#   + what is there instead; none takes the text out
#   = arguments of the `cargo test` that must fail

# How many seconds a test took of the source as it is, or that it did not pass.
declare -A unbroken=()

# unbroken_passes TEST...: each only once.
unbroken_passes() {
    local begun
    if [ -z "${unbroken[$*]-}" ]; then
        unbroken[$*]=no
        if cargo test --quiet --locked --no-run "$@" >/dev/null 2>&1; then
            begun=$SECONDS
            ! timeout 150 cargo test --quiet --locked "$@" >/dev/null 2>&1 ||
                unbroken[$*]=$((SECONDS - begun))
        fi
    fi
    [ "${unbroken[$*]}" != no ]
}

# mutate FILE FROM TO TEST...: one mutation, in the copy of the source.
mutate() {
    local file=$1 from=$2 to=$3 whole name="$1: ${2%%$'\n'*}" result status=0 limit
    whole=$(<"$file")
    if [[ $whole != *"$from"* || ${whole#*"$from"} == *"$from"* ]]; then
        result='the text is not there, or more than once'
    elif ! unbroken_passes "${@:4}"; then
        result="${*:4} fails without it"
    else
        printf '%s\n' "${whole/"$from"/"$to"}" >"$file"
        if ! cargo test --quiet --locked --no-run "${@:4}" >/dev/null 2>&1; then
            result='does not compile'
        else
            limit=$((30 + 10 * ${unbroken[${*:4}]}))
            timeout $limit cargo test --quiet --locked "${@:4}" >/dev/null 2>&1 || status=$?
            case $status in
                0) result="no test of ${*:4} fails" ;;
                101) ;; # cargo's, of a test that fails
                124) name+=' (does not end)' ;;
                *) result="${*:4} ended with status $status" ;;
            esac
        fi
        printf '%s\n' "$whole" >"$file"
    fi
    if [ -z "${result-}" ]; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name: $result"
    fi
}

mutation_tests() {
    local list file='' from='' to='' line copy
    copy=$(mktemp -d)
    git ls-files -z | xargs -0 cp --parents --preserve=timestamps -t "$copy"
    pushd "$copy" >/dev/null
    # Nobody debugs them, and to link without is faster.
    export CARGO_TARGET_DIR=$CACHE/mutations CARGO_PROFILE_DEV_DEBUG=0
    for list in tests/mutations/*; do
        while IFS= read -r line; do
            case $line in
                '' | '#'*) ;;
                '- '*) from+=${from:+$'\n'}${line#- } ;;
                '+ '*) to+=${to:+$'\n'}${line#+ } ;;
                '= '*)
                    # shellcheck disable=SC2086 # several arguments
                    mutate "$file" "$from" "$to" ${line#= } </dev/null
                    from='' to=''
                    ;;
                *) file=$line ;;
            esac
        done <"$list"
    done
    popd >/dev/null
    rm -rf -- "$copy"
}
