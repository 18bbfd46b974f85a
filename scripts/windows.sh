#!/usr/bin/env bash
# Builds the Windows program and its tests on Linux, and runs them under Wine on software Vulkan.
# usage: scripts/windows.sh [TEST ARGUMENTS]   e.g. scripts/windows.sh --test cli -- embed   (all of its tests by default)
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

export VECTILE_REQUIRE_ADAPTER=1
export VECTILE_TEST_MODEL=$MODEL_DIR
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$WINE_DIR/run

# windows_test ARGUMENTS...: `cargo test` for Windows. The build runs outside Wine's display, the tests inside it.
windows_test() {
    cross "$WINDOWS_TARGET" cargo test --locked --target "$WINDOWS_TARGET" "$@"
}

if [ $# -gt 0 ]; then
    with_wine bash -c '. scripts/lib.sh && . scripts/cross.sh && cross "$WINDOWS_TARGET" cargo test --locked --target "$WINDOWS_TARGET" "$@"' windows "$@"
    exit
fi

say "Windows: building the program and its tests"
windows_test --all-features --no-run --test cli --test golden --test server --test serve
