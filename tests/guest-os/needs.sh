# shellcheck shell=bash
# Sourced: what the tests need from the machine. Installed where that can be
# done; else the run ends before its first test and says what to install.

give_up() { # MESSAGE
    echo "tests/run: $1" >&2
    exit 1
}

# install_packages PACKAGE... (Debian's names)
install_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        give_up "missing: install $* (Debian's package names), or run as root on Debian"
    fi
    echo "installing $*"
    apt-get -qq update >/dev/null || true # a source of no concern may be out of reach
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$@" >/dev/null
}

need_rust() {
    local least has
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null ||
        give_up "missing: cargo; install Rust $least or newer with rustup"
    has=$(cargo --version | cut -d ' ' -f 2)
    printf '%s\n' "$least" "$has" | sort --version-sort --check=quiet ||
        give_up "cargo is version $has, $least is the oldest that will do: rustup update"
}

# Lints and the compiler's messages are of one version; another may word them
# differently, and then a test of them fails.
lints_version=1.95.0

use_lints_version() {
    command -v rustup >/dev/null || return 0
    if rustup run "$lints_version" cargo clippy --version >/dev/null 2>&1 ||
        rustup toolchain install "$lints_version" --profile minimal --component clippy,rustfmt >/dev/null 2>&1; then
        export RUSTUP_TOOLCHAIN=$lints_version
        # For the tests that look at the machine code of others.
        rustup target add aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf \
            >/dev/null 2>&1 || true
    else
        echo "Rust $lints_version cannot be had: lints and messages are those of $(rustc --version)"
    fi
}

need_host_tools() {
    local tool
    use_lints_version
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 ||
            give_up "missing: cargo $tool; install it with: rustup component add rustfmt clippy"
    done
    # Tests disassemble code for these. Elsewhere they skip what they cannot compile.
    ! command -v rustup >/dev/null || rustup --quiet target add aarch64-unknown-linux-gnu \
        armv7-unknown-linux-gnueabihf || true
    export UDMABUF_TESTS_SKIP_NOTHING=yes
    # At once, and again if the network fails: also what only other systems need, of
    # which a test reads the licences.
    local try
    for try in 1 2 3; do
        ! cargo fetch --quiet --locked || break
        sleep "$try"
    done
    # Rust links with cc; a dependency of the fuzz targets is C++.
    for tool in cc c++; do
        command -v "$tool" >/dev/null || install_packages g++
    done
}

need_source_tools() {
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
    command -v dtc >/dev/null || install_packages device-tree-compiler
}

need_board_tools() {
    local missing=()
    [ "$(uname -m)" = x86_64 ] || give_up "boards and kernels need an x86_64 machine, this is $(uname -m)"
    [ "$(id -u)" = 0 ] || give_up "boards and kernels need root (mount and chroot): sudo tests/run ..."
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    # An older keyring lacks the keys of newer releases.
    [ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    mkdir -p "$CACHE"
}
