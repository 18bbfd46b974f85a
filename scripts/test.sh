#!/usr/bin/env bash
# Installs everything that the tests need, then runs every check and test. The script asks no questions and stops at the first failure.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$ROOT/scripts/cross.sh"
cd "$ROOT"

begun=$SECONDS
current=setup
done_steps=()

# step NAME COMMAND...: runs COMMAND and records its duration under NAME.
step() {
    local started=$SECONDS
    current=$1
    say "$1"
    shift
    "$@"
    done_steps+=("$(printf '%5ds  %s' $((SECONDS - started)) "$current")")
}

summary() {
    local status=$? line
    printf '\n'
    if [ "$status" = 0 ]; then
        say "All passed in $((SECONDS - begun))s"
    else
        say "FAILED at: $current (exit status $status, after $((SECONDS - begun))s)"
    fi
    for line in ${done_steps[@]+"${done_steps[@]}"}; do
        note "$line"
    done
    if [ "$status" = 0 ] && [ -n "${skipped:-}" ]; then
        note "skipped: $skipped"
    fi
}

# adapter_is_lavapipe: succeeds if the tests run on Mesa's software driver.
adapter_is_lavapipe() {
    [ "$(uname -s)" = Linux ] && ! has_gpu || return 1
    # The earlier steps of this script have built the debug version of the program, so it can list the adapters here.
    local adapters
    adapters=$("${CARGO_TARGET_DIR:-target}/debug/vectile" adapters 2>/dev/null || true)
    grep -Eqi 'llvmpipe|lavapipe' <<<"$adapters"
}

ensure_cargo
# On a full disk, the linker dies of a bus error in the middle of the run. A clean checkout needs some 5 GB.
if [ -d "${CARGO_TARGET_DIR:-target}/debug" ]; then ensure_space 3; else ensure_space 8; fi
# Incremental compilation stores several GB for later builds. CI builds only once, so incremental compilation is
# disabled there.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0
ensure_vulkan
ensure_model "$MODEL_DIR"
trap summary EXIT

# With these variables, a test fails instead of being skipped if the adapter or the model is missing.
export VECTILE_REQUIRE_ADAPTER=1
export VECTILE_TEST_MODEL=$MODEL_DIR
skipped=

if ensure_chromium; then
    export VECTILE_REQUIRE_CHROMIUM=1
else
    skipped="tests of pages in Chromium (it could not be installed)"
fi

export VECTILE_CLIENTS=$ROOT/.vectile/clients
python_clients=0 node_clients=0
ensure_venv "Python clients of the server" "$VECTILE_CLIENTS/python" tests/serve/clients/requirements.txt && python_clients=1
ensure_node_packages "Node clients of the server" "$VECTILE_CLIENTS/node" tests/serve/clients && node_clients=1
case $python_clients$node_clients in
    11) export VECTILE_REQUIRE_CLIENTS=1 ;;
    10) skipped="${skipped:+$skipped; }Node clients of the server, and clicks on its pages" ;;
    01) skipped="${skipped:+$skipped; }Python clients of the server" ;;
    00) skipped="${skipped:+$skipped; }clients of the server, and clicks on its pages" ;;
esac

export VECTILE_DAWN=$ROOT/.vectile/dawn
if ensure_node_packages "Compiler of browsers (Dawn)" "$VECTILE_DAWN" tests/shaders/browser; then
    export VECTILE_REQUIRE_DAWN=1
else
    skipped="${skipped:+$skipped; }every shader in a browser's compiler (Dawn for Node could not be installed)"
fi

for component in rustfmt clippy; do
    if ! cargo "${component#rust}" --version >/dev/null 2>&1; then
        current="installing $component"
        have rustup || die "$component is missing; install it beside cargo."
        rustup component add "$component"
    fi
done

step "cargo fmt --check" cargo fmt --check
# Most steps use the same cargo features, because for a different set of features cargo would compile all crates again.
step "cargo clippy" cargo clippy --locked --all-features --all-targets -- -D warnings
step "cargo clippy, the library alone" cargo clippy --locked --no-default-features --lib -- -D warnings
step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps
# The unit tests replay the inputs of the fuzz targets. `scripts/fuzz.sh` searches for new inputs, with the nightly compiler.
# Tests run the shaders on the machine's GPU or software driver. The shaders' tests run on the CPU only if
# VECTILE_ADAPTER is `cpu`.
step "cargo test" cargo test --locked --all-features
# On the CPU, f16 and packed f16 weights are widened to f32 and then computed like f32 weights. The tests of kernels
# check the widening for every storage type, so the golden tests of f16 and packed f16 are skipped.
step "cargo test, kernels and golden vectors on the CPU" \
    env VECTILE_ADAPTER=cpu cargo test --locked --all-features --test kernels --test golden -- \
    --skip ::f16_weights --skip packed_f16

current="finding the adapter"
if adapter_is_lavapipe; then
    # By default, the software driver compiles shaders for vectors of 256 bits. Other widths give other subgroup sizes,
    # so the tests of kernels with subgroups run again. Vectors of 128 bits give subgroups of 4. SwiftShader also has
    # subgroups of 4, and a later step runs all kernels on it.
    step "cargo test, kernels at LP_NATIVE_VECTOR_WIDTH=128" \
        env LP_NATIVE_VECTOR_WIDTH=128 cargo test --locked --all-features --test kernels -- selftest:: bit_identical
    step "cargo test, kernels at LP_NATIVE_VECTOR_WIDTH=512" \
        env LP_NATIVE_VECTOR_WIDTH=512 cargo test --locked --all-features --test kernels -- \
        selftest:: attention:: layer_norm:: rms_norm:: normalize_l2:: experts::routes matmul::ragged bit_identical
    step "cargo test, golden vectors in float32 at LP_NATIVE_VECTOR_WIDTH=128" \
        env LP_NATIVE_VECTOR_WIDTH=128 cargo test --locked --all-features --test golden -- \
        bits:: minilm::float32 families::float32 --skip kernels_for_gpus --skip without_subgroups
else
    skipped="${skipped:+$skipped; }vector widths 128 and 512 (only the software driver has them)"
fi

# Chromium contains SwiftShader, a software driver without f16 and with subgroups of 4. SwiftShader's tanh is NaN if the
# argument exceeds 89.
SWIFTSHADER=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -f "$SWIFTSHADER" ]; then
    step "cargo test, kernels on SwiftShader" \
        env VK_DRIVER_FILES="$SWIFTSHADER" cargo test --locked --all-features --test kernels
else
    skipped="${skipped:+$skipped; }SwiftShader (it comes with Debian's chromium)"
fi

# The software driver has cooperative matrices only in Mesa 26 and later, and Debian 12 has an older Mesa.
current="setting up a driver with cooperative matrices"
if adapter_is_lavapipe && ensure_mesa_matrices "$ROOT/.vectile/mesa"; then
    step "cargo test, kernels on cooperative matrices" \
        env CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$ROOT/.vectile/mesa/run" VECTILE_REQUIRE_COOPERATIVE=1 \
        cargo test --locked --all-features --test kernels -- cooperative:: matmul:: attention:: experts::matmul experts::rows_are
else
    skipped="${skipped:+$skipped; }cooperative matrices (a Mesa with them could not be unpacked)"
fi

# In this step, commands run on drivers of real GPUs without the hardware. These drivers compute nothing, so no command
# may return a row.
current="setting up drivers that compute nothing"
if [ "$(uname -s)" = Linux ] && ensure_mesa_matrices "$ROOT/.vectile/mesa" && ensure_silent_drivers "$ROOT/.vectile/mesa"; then
    step "cargo test, drivers that compute nothing" \
        env VECTILE_SILENT_DRIVERS="$ROOT/.vectile/mesa" cargo test --locked --all-features --test silent_drivers
    # These drivers also compile shaders as they do for the real GPUs. This step compiles shaders for seven of the
    # eighteen GPUs, and only the variants that have limits of registers, spills and instructions. It takes half a minute.
    step "bench of compilers: limits of registers, spills and instructions" \
        env VECTILE_SILENT_DRIVERS="$ROOT/.vectile/mesa" cargo test --locked --all-features --bench compilers -- --check
else
    skipped="${skipped:+$skipped; }drivers that compute nothing, and their compilers (Mesa's drivers without hardware could not be unpacked)"
fi

if have python3; then
    step "the software bill of materials" sh -c 'python3 scripts/sbom.py x86_64-unknown-linux-gnu >/dev/null'
    # The comparison with sentence-transformers needs torch, which is large. The tests of Ray can fail
    # on a machine that also runs other work.
    step "the Python package" scripts/python.sh package plugins
    if ! cmp -s bindings/python/requirements-plugins.txt .vectile/python/plugins/requirements.txt; then
        skipped="${skipped:+$skipped; }the Python package with the libraries that use it (their packages could not be installed)"
    fi
    skipped="${skipped:+$skipped; }the Python package on Ray and beside sentence-transformers (run scripts/python.sh ray reference)"
else
    skipped="${skipped:+$skipped; }the Python package (there is no python3)"
fi

# has_std TARGET: succeeds if a compiler with the standard library for TARGET is present. Unpacking a compiler and
# building its libraries would take minutes. The next steps therefore run only if rustup has the target, or if
# `scripts/windows.sh` or `scripts/web.sh` has already unpacked the compiler.
has_std() {
    [ -d "$CROSS_DIR/usr/lib/rustlib/$1/lib" ] || { have rustup && rustup target list --installed | grep -qx "$1"; }
}

if has_std wasm32-unknown-unknown; then
    step "wasm32: the library and the crate of the npm package" scripts/web.sh check
else
    skipped="${skipped:+$skipped; }wasm32 (the compiler has no standard library for it)"
fi
skipped="${skipped:+$skipped; }the npm package in Node and in Chromium (run scripts/web.sh)"

# Linux cannot link or run a program for macOS, so this step runs only `cargo check`.
if [ "$(uname -s)" = Linux ] && has_std "$MACOS_TARGET"; then
    step "cargo check for macOS" cross "$MACOS_TARGET" cargo check "${QUICK_BUILD[@]}" --target "$MACOS_TARGET"
else
    skipped="${skipped:+$skipped; }the check for macOS (the compiler has no standard library for it)"
fi

# `scripts/windows.sh` without --short also tests Parquet, Arrow and the Hub's client, and takes 15 minutes more.
if [ "$(uname -s)" = Linux ] && has_std "$WINDOWS_TARGET" && ensure_windows_linker && ensure_wine; then
    step "the Windows program under Wine" scripts/windows.sh --short
else
    skipped="${skipped:+$skipped; }the Windows program under Wine (run scripts/windows.sh)"
fi

step "benches, each once" cargo test --locked --all-features --benches
current=end
