# shellcheck shell=bash
# Sourced: breaks the crates in one place after the other; each time a test
# must fail. The places are in tests/mutations, one below the other:
#
#   FILE
#   - text that is in FILE once; more such lines are more lines of it
#   + what is there instead; none takes the text out
#   = arguments of the `cargo test` that must fail

# mutate FILE FROM TO TEST...: one mutation, in the copy of the source.
mutate() {
    local file=$1 from=$2 to=$3 whole name="$1: ${2%%$'\n'*}" result
    whole=$(<"$file")
    if [[ $whole != *"$from"* || ${whole#*"$from"} == *"$from"* ]]; then
        result='the text is not there, or more than once'
    else
        printf '%s\n' "${whole/"$from"/"$to"}" >"$file"
        if ! cargo test --quiet --locked --no-run "${@:4}" >/dev/null 2>&1; then
            result='does not compile'
        elif timeout 300 cargo test --quiet --locked "${@:4}" >/dev/null 2>&1; then
            result="no test of ${*:4} fails"
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
    export CARGO_TARGET_DIR=$CACHE/mutations
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
