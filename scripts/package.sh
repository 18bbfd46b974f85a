#!/usr/bin/env bash
# Makes an archive of the program for each operating system in dist/. Then runs each packaged program in an empty directory.
# usage: scripts/package.sh [linux] [windows] [python]   Without arguments, the script makes all packages. `python` makes the wheel for
# this system.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$ROOT/scripts/cross.sh"
cd "$ROOT"

# The maximum size of an archive in bytes; the script fails if an archive is larger.
MOST_BYTES=$((40 * 1024 * 1024))
TARGET_DIR=${CARGO_TARGET_DIR:-target}
DIST=$ROOT/dist
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# Files in the archive get the date of the commit, so that the same commit gives the same archive.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

# copy_documents DIR: copies the documents into DIR, and every file to which README.md links.
copy_documents() {
    local link
    cp ./*.md LICENSE-APACHE LICENSE-MIT "$1/"
    cp -r docs "$1/docs"
    while read -r link; do
        mkdir -p "$1/$(dirname "$link")"
        cp "$link" "$1/$link"
    done < <(grep -oE '\]\([^)#]+' README.md | cut -c3- | grep -v ://)
}

# archive TARGET PROGRAM: packs PROGRAM with its documents, the licences of its dependencies and its software bill of materials. Writes the
# archive's SHA-256 into a file beside the archive.
archive() {
    local target=$1 program=$2 name=vectile-$VERSION-$1 at packed bytes
    at=$(mktemp -d)
    mkdir "$at/$name"
    cp "$program" "$at/$name/"
    copy_documents "$at/$name"
    python3 scripts/licenses.py "$target" >"$at/$name/LICENSES-OF-DEPENDENCIES.txt"
    python3 scripts/sbom.py "$target" >"$at/$name/SBOM.cdx.json"
    find "$at/$name" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    mkdir -p "$DIST"
    case $target in
    *windows*)
        packed=$DIST/$name.zip
        rm -f "$packed"
        (cd "$at" && find "$name" | LC_ALL=C sort | python3 "$ROOT/scripts/zip.py" "$packed")
        ;;
    *)
        packed=$DIST/$name.tar.gz
        tar --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -C "$at" -cf - "$name" | gzip -9n >"$packed"
        ;;
    esac
    rm -rf "$at"
    bytes=$(wc -c <"$packed")
    [ "$bytes" -le "$MOST_BYTES" ] || die "$packed has $bytes bytes; at most $MOST_BYTES are allowed."
    (cd "$DIST" && printf '%s  %s\n' "$(sha256 "$packed")" "$(basename "$packed")" >"$packed.sha256")
    note "${packed#"$ROOT"/}: $((bytes / 1024)) KiB"
}

# try_linux: unpacks the archive into an empty directory and runs the program there, without this checkout.
try_linux() {
    local at
    at=$(mktemp -d)
    tar -C "$at" -xzf "$DIST/vectile-$VERSION-x86_64-unknown-linux-gnu.tar.gz"
    (
        cd "$at/vectile-$VERSION-x86_64-unknown-linux-gnu"
        env -i PATH=/usr/bin:/bin HOME="$at" ./vectile --version
        if model_complete "$MODEL_DIR"; then
            env -i PATH=/usr/bin:/bin HOME="$at" ./vectile similarity --model "$MODEL_DIR" "a cat" "a kitten"
        fi
    ) || die "the packaged program does not run"
    rm -rf "$at"
}

# try_windows: unpacks the Windows archive into an empty directory and runs the program there, under Wine.
try_windows() {
    local at
    ensure_wine || {
        note "not tried: Wine could not be set up"
        return 0
    }
    at=$(mktemp -d)
    python3 -m zipfile -e "$DIST/vectile-$VERSION-$WINDOWS_TARGET.zip" "$at"
    (
        cd "$at/vectile-$VERSION-$WINDOWS_TARGET"
        wine_script "$at/vectile" "$PWD/vectile.exe"
        with_wine "$at/vectile" --version
        if model_complete "$MODEL_DIR"; then
            with_wine "$at/vectile" similarity --model "Z:${MODEL_DIR//\//\\}" "a cat" "a kitten"
        fi
    ) || die "the packaged program does not run under Wine"
    rm -rf "$at"
}

ensure_cargo
[ $# -gt 0 ] || set -- linux windows python
for system in "$@"; do
    case $system in
    linux)
        say "Linux: cargo build --release"
        cargo build --release --locked
        archive x86_64-unknown-linux-gnu "$TARGET_DIR/release/vectile"
        ensure_vulkan
        try_linux
        ;;
    windows)
        say "Windows: cargo build --release --target $WINDOWS_TARGET"
        ensure_windows_linker && ensure_target "$WINDOWS_TARGET" || die "there is no compiler for Windows here."
        cross "$WINDOWS_TARGET" cargo build --release --locked --target "$WINDOWS_TARGET"
        archive "$WINDOWS_TARGET" "$TARGET_DIR/$WINDOWS_TARGET/release/vectile.exe"
        try_windows
        ;;
    python)
        say "Python: the wheel"
        scripts/python.sh wheel
        ;;
    *) die "unknown system: $system; use linux, windows or python." ;;
    esac
done
say "Packed into ${DIST#"$ROOT"/}"
