# Defines functions that build and test Vectile for other systems on Debian. Source this file after lib.sh; do not run it.
# shellcheck shell=bash

# CROSS_DIR holds the compiler and the standard libraries for other systems. To share them between several checkouts,
# set VECTILE_CROSS to a common directory.
CROSS_DIR=${VECTILE_CROSS:-$ROOT/.vectile/cross}
# WINE_DIR holds Wine's registry and C: drive. To use another directory, set VECTILE_WINE.
WINE_DIR=${VECTILE_WINE:-$ROOT/.vectile/wine}
WINDOWS_TARGET=x86_64-pc-windows-gnu
MACOS_TARGET=aarch64-apple-darwin
# The arguments of the quickest build: no optimization, and only features whose dependencies have no C code. The feature
# `hub` needs Apple's SDK for macOS.
# shellcheck disable=SC2034
QUICK_BUILD=(--locked --no-default-features --features "cli,cpu,server"
    --config 'profile.quick.inherits="release"' --config profile.quick.opt-level=0 --config profile.quick.codegen-units=16
    --profile quick)

# rustup_has_target TARGET: succeeds if rustup has the standard library for TARGET or can download it.
rustup_has_target() {
    have rustup || return 1
    rustup target list --installed 2>/dev/null | grep -qx "$1" && return 0
    timeout 60 rustup target add "$1" >/dev/null 2>&1
}

# ensure_debian_rust: unpacks Debian's newest Rust compiler and the sources of its standard library into CROSS_DIR.
# The function installs nothing, and does not change the machine's own Rust toolchain.
ensure_debian_rust() {
    [ -x "$CROSS_DIR/usr/bin/rustc" ] && return 0
    [ "$(uname -sm)" = "Linux x86_64" ] && have apt-get && have dpkg || return 1
    note "unpacking Debian's rustc-web into ${CROSS_DIR#"$ROOT"/}"
    rm -rf "$CROSS_DIR"
    mkdir -p "$CROSS_DIR/packages"
    as_root apt-get update -qq >/dev/null 2>&1 || true
    # A simulated installation lists all missing packages and their dependencies.
    local packages
    packages=$(apt-get install --simulate --no-install-recommends rustc-web cargo-web rust-web-src libstd-rust-web-dev 2>/dev/null |
        awk '$1 == "Inst" { print $2 }')
    [ -n "$packages" ] || return 1
    # shellcheck disable=SC2086
    (cd "$CROSS_DIR/packages" && apt-get download -qq $packages >/dev/null) || return 1
    local package linker
    for package in "$CROSS_DIR"/packages/*.deb; do
        dpkg -x "$package" "$CROSS_DIR" || return 1
    done
    rm -rf "$CROSS_DIR/packages"
    # Debian's compiler has no rust-lld, so a symbolic link points to the rust-lld of the machine's own toolchain.
    linker=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
    mkdir -p "$CROSS_DIR/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin"
    ln -sf "$linker/rust-lld" "$CROSS_DIR/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"
    # The build of the standard library also links a shared library, which nothing uses. `no-linker` therefore takes the
    # place of a linker for the target, and writes an empty file. The real `rust-objcopy` could not strip an empty file,
    # so a script that does nothing replaces it.
    printf '#!/bin/bash\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && : >"$2"; shift; done\nexit 0\n' >"$CROSS_DIR/no-linker"
    printf '#!/bin/sh\nexit 0\n' >"$CROSS_DIR/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-objcopy"
    chmod +x "$CROSS_DIR/no-linker" "$CROSS_DIR/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-objcopy"
}

# with_debian_rust COMMAND...: runs COMMAND with the compiler that ensure_debian_rust unpacked.
with_debian_rust() {
    env LD_LIBRARY_PATH="$CROSS_DIR/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
        PATH="$CROSS_DIR/usr/bin:$PATH" RUSTC="$CROSS_DIR/usr/bin/rustc" RUSTDOC="$CROSS_DIR/usr/bin/rustdoc" "$@"
}

# build_std TARGET: compiles the standard library for TARGET with the compiler that ensure_debian_rust unpacked.
build_std() {
    local target=$1 built=$CROSS_DIR/std-$1 into=$CROSS_DIR/usr/lib/rustlib/$1/lib sources
    [ -d "$into" ] && return 0
    note "compiling Rust's standard library for $target"
    sources=$(echo "$CROSS_DIR"/usr/src/rustc-1.*/library)
    (
        cd "$sources" || exit 1
        # Only the standard library needs unstable features, so only this build sets RUSTC_BOOTSTRAP.
        with_debian_rust env RUSTC_BOOTSTRAP=1 __CARGO_DEFAULT_LIB_METADATA=web CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER="$CROSS_DIR/no-linker" \
            RUSTFLAGS="-Zforce-unstable-if-unmarked -Cembed-bitcode=yes" \
            cargo build --quiet --release --locked -p sysroot --features panic-unwind,compiler-builtins-mem \
            --target "$target" --target-dir "$built" >"$CROSS_DIR/std-$target.log" 2>&1
    ) || {
        tail -n 5 "$CROSS_DIR/std-$target.log" >&2
        return 1
    }
    mkdir -p "$into"
    cp "$built/$target"/release/deps/*.rlib "$into/" || return 1
    rm -rf "$built" "$CROSS_DIR/std-$target.log"
}

# ensure_target TARGET: prepares `cross TARGET COMMAND...`. If rustup has the standard library for TARGET, the function
# uses it. Otherwise it compiles the standard library from Debian's sources.
ensure_target() {
    rustup_has_target "$1" && return 0
    ensure_debian_rust && build_std "$1"
}

# cross TARGET COMMAND...: runs COMMAND with a compiler that has a standard library for TARGET.
cross() {
    local target=$1
    shift
    if [ -d "$CROSS_DIR/usr/lib/rustlib/$target/lib" ]; then
        with_debian_rust "$@"
    else
        "$@"
    fi
}

# ensure_windows_linker: installs the linker and the C compiler for Windows if they are missing.
ensure_windows_linker() {
    have x86_64-w64-mingw32-gcc || apt_install gcc-mingw-w64-x86-64
}

# ensure_wine: installs and sets up Wine if needed, so that `with_wine COMMAND...` can start Windows programs.
ensure_wine() {
    have wine && have Xvfb && have xauth || apt_install wine64 wine xvfb xauth || return 1
    [ -e "$WINE_DIR/ready" ] && return 0
    note "setting up Wine in ${WINE_DIR#"$ROOT"/}"
    rm -rf "$WINE_DIR"
    mkdir -p "$WINE_DIR"
    with_wine wineboot --init >"$WINE_DIR/log" 2>&1 || {
        tail -n 5 "$WINE_DIR/log" >&2
        return 1
    }
    # Rust programs get random numbers from bcryptprimitives.dll, which Wine 8 lacks, so a small replacement is
    # compiled.
    if [ ! -e "$WINE_DIR/prefix/drive_c/windows/system32/bcryptprimitives.dll" ]; then
        cat >"$WINE_DIR/random.c" <<'SOURCE'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
    while (size > 0) {
        ULONG part = size > 0x10000 ? 0x10000 : (ULONG)size;
        if (!RtlGenRandom(data, part)) return FALSE;
        data += part;
        size -= part;
    }
    return TRUE;
}
SOURCE
        x86_64-w64-mingw32-gcc -shared -O2 -o "$WINE_DIR/prefix/drive_c/windows/system32/bcryptprimitives.dll" \
            "$WINE_DIR/random.c" -ladvapi32 || return 1
    fi
    touch "$WINE_DIR/ready"
}

# wine_script FILE PROGRAM: writes a script to FILE that starts the Windows program PROGRAM with the script's arguments.
wine_script() {
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$(command -v wine64 || command -v wine)" "$2" >"$1"
    chmod +x "$1"
}

# with_wine COMMAND...: runs COMMAND with Wine's settings and a display. Without a display, Windows programs find no
# Vulkan in Wine. Wine's Direct3D 12 cannot compile shaders, so programs do not find it unless WINE_DIRECT3D is 1. The
# locale makes Wine read arguments as UTF-8.
with_wine() {
    env WINEPREFIX="$WINE_DIR/prefix" WINEARCH=win64 WINEDEBUG=-all LC_ALL=C.UTF-8 \
        WINEDLLOVERRIDES="mscoree,mshtml$([ "${WINE_DIRECT3D:-0}" = 1 ] || echo ,d3d12)=" \
        xvfb-run --auto-servernum --server-args="-screen 0 640x480x24" "$@"
}
