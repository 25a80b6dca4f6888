# shellcheck shell=bash disable=SC2034
# Sourced with `arch` set: what Linux, the compilers and Rust call a Debian
# architecture.
case ${arch:?} in
    amd64) linux=x86_64 gnu=x86_64-linux-gnu rust=x86_64-unknown-linux-gnu ;;
    arm64) linux=arm64 gnu=aarch64-linux-gnu rust=aarch64-unknown-linux-gnu ;;
    *)
        echo "unknown architecture $arch" >&2
        exit 1
        ;;
esac
