#!/usr/bin/env bash
# Builds the Windows program on Linux and tests it under Wine, on software Vulkan.
# usage: scripts/windows.sh [FILTER...]   Each FILTER is a part of the names of tests in tests/cli. Without a FILTER, the script
# runs all tests that Wine can run, and the tests of the server's clients if the clients are installed.
#
# The tests are the same as on Linux. They start the program that VECTILE_PROGRAM names, which is a script that runs the
# Windows program under Wine.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$ROOT/scripts/cross.sh"
cd "$ROOT"

ensure_cargo
ensure_vulkan
ensure_model "$MODEL_DIR"
ensure_windows_linker && ensure_target "$WINDOWS_TARGET" || die "there is no compiler for Windows here."
ensure_wine || die "Wine could not be set up."

say "Windows: building the program"
cross "$WINDOWS_TARGET" cargo build --locked --all-features --bin vectile --target "$WINDOWS_TARGET"
PROGRAM=$(readlink -f "${CARGO_TARGET_DIR:-target}/$WINDOWS_TARGET/debug/vectile.exe")

# The tests send signals to the program. The script must therefore replace itself by Wine (`exec`) instead of starting
# Wine as a child process.
wine_script "$WINE_DIR/vectile" "$PROGRAM"

say "Windows: the reference texts of all-MiniLM-L6-v2"
# With WINE_DIRECT3D=1, the best GPU is one of Direct3D 12, on which no kernel compiles. The program must then choose
# Vulkan by itself.
WINE_DIRECT3D=1 with_wine "$WINE_DIR/vectile" verify "$MODEL_DIR" --adapter gpu

say "Windows: the tests of the command line"
export VECTILE_PROGRAM=$WINE_DIR/vectile VECTILE_PROGRAM_UNDER_WINE=1 VECTILE_REQUIRE_WINDOWS=1
export VECTILE_REQUIRE_ADAPTER=1 VECTILE_TEST_MODEL=$MODEL_DIR
if [ $# -gt 0 ]; then
    with_wine cargo test --locked --all-features --test cli -- "$@"
    exit
fi
# The other tests of tests/cli measure times, or test parts of the program that do not depend on the operating system.
with_wine cargo test --locked --all-features --test cli -- windows:: interrupt:: resume:: embed:: search:: output:: dialects::

export VECTILE_CLIENTS=${VECTILE_CLIENTS:-$ROOT/.vectile/clients}
if [ -d "$VECTILE_CLIENTS/python" ] && [ -d "$VECTILE_CLIENTS/node" ]; then
    say "Windows: the server and its clients"
    with_wine cargo test --locked --all-features --test serve -- clients::
else
    note "skipped: the server and its clients (scripts/test.sh installs the clients)"
fi
