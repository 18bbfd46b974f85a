#!/usr/bin/env bash
# Builds the Windows program on Linux and tests it under Wine, on software Vulkan.
# usage: scripts/windows.sh [FILTER...]   Each FILTER is a part of the names of tests in tests/cli. Without one, the script
# runs all tests that Wine can run, and the clients of the server if they are installed.
#
# The tests are the same as on Linux. VECTILE_PROGRAM names the program that the tests start: here a script that runs
# the Windows program under Wine.
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

# The tests stop the program by signals. The script must therefore replace itself by Wine (`exec`), not start Wine as a
# child process.
wine_script "$WINE_DIR/vectile" "$PROGRAM"

say "Windows: the reference texts of all-MiniLM-L6-v2"
# The best GPU is then one of Direct3D 12, which compiles no kernel, so the program must choose Vulkan by itself.
WINE_DIRECT3D=1 with_wine "$WINE_DIR/vectile" verify "$MODEL_DIR" --adapter gpu

say "Windows: the tests of the command line"
export VECTILE_PROGRAM=$WINE_DIR/vectile VECTILE_PROGRAM_UNDER_WINE=1 VECTILE_REQUIRE_WINDOWS=1
export VECTILE_REQUIRE_ADAPTER=1 VECTILE_TEST_MODEL=$MODEL_DIR
if [ $# -gt 0 ]; then
    with_wine cargo test --locked --all-features --test cli -- "$@"
    exit
fi
# The other tests of tests/cli measure, or test no part of the program that depends on the system.
with_wine cargo test --locked --all-features --test cli -- windows:: interrupt:: resume:: embed:: search:: output:: dialects::

export VECTILE_CLIENTS=${VECTILE_CLIENTS:-$ROOT/.vectile/clients}
if [ -d "$VECTILE_CLIENTS/python" ] && [ -d "$VECTILE_CLIENTS/node" ]; then
    say "Windows: the server and its clients"
    with_wine cargo test --locked --all-features --test serve -- clients::
else
    note "skipped: the server and its clients (scripts/test.sh installs the clients)"
fi
