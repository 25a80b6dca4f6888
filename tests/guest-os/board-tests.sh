# shellcheck shell=bash
# Sourced: a board is a machine in QEMU that runs the guest program.

board_failed() { # BOARD MESSAGE
    failed=$((failed + 1))
    echo "$1: FAILED board: $2"
}

# board_tests DIRECTORY BOARD...: a machine keeps one core busy, so as many at a
# time as there are.
board_tests() {
    local board
    for board in "${@:2}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
            wait -n || true
        done
        {
            passed=0 failed=0 qemu=''
            trap 'kill $qemu 2>/dev/null || true' EXIT
            trap 'exit 1' TERM
            board_test "$board" "$1/$board"
            echo "$passed $failed" >"$1/$board.counts"
        } &
    done
    wait
    for board in "${@:2}"; do
        add_counts "$1/$board.counts"
    done
}

# add_counts FILE: of what ran beside. What broke off tells nothing.
add_counts() {
    local counts
    counts=$(cat "$1" || echo 0 1)
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

board_test() { # BOARD DIRECTORY
    local board=$1 directory=$2 results line begun=$SECONDS prepared
    local tests=0 failures=0 finished=no status=none ended=0 wrong=() expected=''
    # What the kernel has to say on this board, if anything, when all tests are run.
    [ -n "${FUZZ-}${ONLY-}" ] || expected=$(sed -n "s/^expected='\(.*\)'$/\1/p" "tests/boards/$board")
    echo "$board ..."
    mkdir "$directory"
    if ! tests/guest-os/prepare "$board" "$directory"; then
        board_failed "$board" 'could not be prepared'
        return
    fi

    prepared=$SECONDS
    : >"$directory/console" # for a QEMU that does not even start
    exec {results}< <(exec tests/guest-os/boot "$board" "$directory" 2>"$directory/messages")
    qemu=$!
    while IFS= read -r line <&"$results"; do
        line=${line%$'\r'}
        case $line in
            '') continue ;;
            'ok '*) tests=$((tests + 1)) ;;
            'FAILED '*) tests=$((tests + 1)) failures=$((failures + 1)) ;;
            'guest finished') finished=yes && continue ;;
            'guest exited with '*) status=${line##* } && break ;;
        esac
        echo "$board: $line"
    done
    exec {results}<&-
    # Not every machine can power itself off, and some waste a second on it.
    kill "$qemu" 2>/dev/null || true
    wait "$qemu" || ended=$?
    qemu=''

    [ $finished = yes ] || wrong+=('no "guest finished"')
    [ $tests != 0 ] || wrong+=('no test ran')
    case $status in
        0) ;;
        none)
            # `timeout` says 124, or 137 if it had to use force.
            [[ $ended =~ ^(124|137)$ ]] && wrong+=('time limit') || wrong+=("QEMU ended: status $ended")
            ;;
        *) [ $failures != 0 ] || wrong+=("the guest program's exit status is $status") ;;
    esac
    # Messages first: QEMU's own. `tr`: text that neither grep nor a terminal stumbles on.
    cat "$directory/messages" "$directory/console" | tr -d '\r\000\033' >"$directory/shown"
    line=$(complaint "$directory/shown")
    [ -z "$line" ] || wrong+=("the kernel said: $line")
    [ -z "$expected" ] || said_of_intrusion "$expected" "$directory/shown" ||
        wrong+=("the kernel did not say: $expected")
    grep -q 'Linux version' "$directory/shown" || wrong+=('the kernel said nothing on the console')

    passed=$((passed + tests - failures))
    failed=$((failed + failures))
    if [ $failures != 0 ] || [ ${#wrong[@]} != 0 ]; then
        echo "--- $board: console"
        sed "s/^/$board| /" "$directory/shown"
        echo "--- $board: end of console"
    fi
    # Once more, at the end: a console is long.
    [ -z "$line" ] || around_complaint "$directory/shown" | sed "s/^/$board: of it| /"
    [ ${#wrong[@]} = 0 ] || board_failed "$board" "$(printf '%s; ' "${wrong[@]}")console above"
    echo "$board: $tests tests, $((SECONDS - prepared)) s, after $((prepared - begun)) s of preparation"
}
