#!/usr/bin/env bash
# Builds the Windows program on Linux and tests it under Wine, on software Vulkan.
# usage: scripts/windows.sh [--short] [FILTER...]
#
# Each FILTER is a part of the names of tests in tests/cli. Without a FILTER, the script runs all tests of tests/cli
# that depend on the operating system. If the server's clients are installed, it also runs their tests. With --short,
# the script builds the program without optimization and without the features `bulk` and `hub`. It then runs only the
# tests that can fail on Windows and pass on Linux.
#
# The tests are the same as on Linux. They start the program that VECTILE_PROGRAM names, which is a script that runs the
# Windows program under Wine.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$ROOT/scripts/cross.sh"
cd "$ROOT"

short=0
[ "${1:-}" != --short ] || { short=1 && shift; }

ensure_cargo
ensure_vulkan
ensure_model "$MODEL_DIR"
ensure_windows_linker && ensure_target "$WINDOWS_TARGET" || die "there is no compiler for Windows here."
ensure_wine || die "Wine could not be set up."

say "Windows: building the program"
if [ "$short" = 1 ]; then
    profile=quick
    cross "$WINDOWS_TARGET" cargo build "${QUICK_BUILD[@]}" --bin vectile --target "$WINDOWS_TARGET"
else
    profile=debug
    cross "$WINDOWS_TARGET" cargo build --locked --all-features --bin vectile --target "$WINDOWS_TARGET"
fi
PROGRAM=$(readlink -f "${CARGO_TARGET_DIR:-target}/$WINDOWS_TARGET/$profile/vectile.exe")

# The tests send signals to the program. The script must therefore replace itself by Wine (`exec`) instead of starting
# Wine as a child process.
wine_script "$WINE_DIR/vectile" "$PROGRAM"
export VECTILE_PROGRAM=$WINE_DIR/vectile VECTILE_PROGRAM_UNDER_WINE=1 VECTILE_REQUIRE_WINDOWS=1
export VECTILE_REQUIRE_ADAPTER=1 VECTILE_TEST_MODEL=$MODEL_DIR
export VECTILE_CLIENTS=${VECTILE_CLIENTS:-$ROOT/.vectile/clients}

say "Windows: the reference texts of all-MiniLM-L6-v2"
# With WINE_DIRECT3D=1, the best GPU is a Direct3D 12 adapter, on which no kernel compiles. The program must then choose
# a Vulkan adapter by itself.
WINE_DIRECT3D=1 with_wine "$WINE_DIR/vectile" verify "$MODEL_DIR" --adapter gpu

# The other tests of tests/cli measure times, or test parts of the program that do not depend on the operating system.
# The short list has no test of Parquet or Arrow, because its program lacks the feature `bulk`.
if [ $# -gt 0 ]; then
    tests=("$@") clients=()
elif [ "$short" = 1 ]; then
    tests=(windows:: ctrl_c_during resume::a_run_resumes resume::two_runs output::a_closed_pipe output::an_existing_file)
    clients=(clients::openai_for_python clients::openai_for_node)
else
    tests=(windows:: interrupt:: resume:: embed:: search:: output:: dialects::)
    clients=(clients::)
fi

say "Windows: the tests of the command line"
with_wine cargo test --locked --all-features --test cli -- "${tests[@]}"

if [ ${#clients[@]} = 0 ]; then
    exit
elif [ -d "$VECTILE_CLIENTS/python" ] && [ -d "$VECTILE_CLIENTS/node" ]; then
    say "Windows: the server and its clients"
    with_wine cargo test --locked --all-features --test serve -- "${clients[@]}"
else
    note "skipped: the server and its clients (scripts/test.sh installs the clients)"
fi
