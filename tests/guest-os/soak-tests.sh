# shellcheck shell=bash
# Sourced: many transfers on a board. Its clock counts instructions and skips what
# the machine would sleep, so that an engine's 100 ms last no time.

soak_test() { # BOARD DIRECTORY
    SOAK=${SOAK:-10000} board_test "$1" "$2"
}
