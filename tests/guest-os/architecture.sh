# shellcheck shell=bash disable=SC2034
# Sourced with `arch` set: what Linux, the compilers and Rust call a Debian
# architecture.
case ${arch:?} in
    amd64) linux=x86_64 gnu=x86_64-linux-gnu rust=x86_64-unknown-linux-gnu ;;
    arm64) linux=arm64 gnu=aarch64-linux-gnu rust=aarch64-unknown-linux-gnu ;;
    armhf) linux=arm gnu=arm-linux-gnueabihf rust=armv7-unknown-linux-gnueabihf ;;
    riscv64) linux=riscv gnu=riscv64-linux-gnu rust=riscv64gc-unknown-linux-gnu ;;
    i386) linux=i386 gnu=i686-linux-gnu rust=i686-unknown-linux-gnu ;;
    *)
        echo "unknown architecture $arch" >&2
        exit 1
        ;;
esac
