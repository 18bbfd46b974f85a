#!/usr/bin/env bash
# Sets up what the tests need, then runs every check and test. Asks nothing; stops at the first failure.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

begun=$SECONDS
current=setup
done_steps=()

# step NAME COMMAND...
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
        note "left out: $skipped"
    fi
}

# adapter_is_lavapipe: would the tests run on Mesa's software driver?
adapter_is_lavapipe() {
    [ "$(uname -s)" = Linux ] && ! has_gpu || return 1
    # The program that the tests of the command line were built with.
    local adapters
    adapters=$("${CARGO_TARGET_DIR:-target}/debug/vectile" adapters 2>/dev/null || true)
    grep -Eqi 'llvmpipe|lavapipe' <<<"$adapters"
}

ensure_cargo
ensure_vulkan
ensure_model "$MODEL_DIR"
trap summary EXIT

# Tests that need an adapter or the model fail without them, where otherwise they would be skipped.
export VECTILE_REQUIRE_ADAPTER=1
export VECTILE_TEST_MODEL=$MODEL_DIR
skipped=

if ensure_chromium; then
    export VECTILE_REQUIRE_CHROMIUM=1
else
    skipped="pages in Chromium (it could not be installed)"
fi

export VECTILE_CLIENTS=$ROOT/.vectile/clients
python_clients=0 node_clients=0
ensure_python_clients "$VECTILE_CLIENTS/python" && python_clients=1
ensure_node_clients "$VECTILE_CLIENTS/node" && node_clients=1
case $python_clients$node_clients in
    11) export VECTILE_REQUIRE_CLIENTS=1 ;;
    10) skipped="${skipped:+$skipped; }Node's clients of the server, and clicks on its pages" ;;
    01) skipped="${skipped:+$skipped; }Python's clients of the server" ;;
    00) skipped="${skipped:+$skipped; }clients of the server, and clicks on its pages" ;;
esac

for component in rustfmt clippy; do
    if ! cargo "${component#rust}" --version >/dev/null 2>&1; then
        current="installing $component"
        have rustup || die "$component is missing; install it beside cargo."
        rustup component add "$component"
    fi
done

step "cargo fmt --check" cargo fmt --check
# Every feature at once: each set of features has crates compiled anew.
step "cargo clippy" cargo clippy --locked --all-features --all-targets -- -D warnings
step "cargo clippy, the library alone" cargo clippy --locked --no-default-features --lib -- -D warnings
step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps
step "cargo test" cargo test --locked --all-features

current="asking for the adapter"
if adapter_is_lavapipe; then
    # The software driver compiles shaders for vectors of 256 bits unless told otherwise; other widths are other subgroup sizes.
    for width in 128 512; do
        step "cargo test, kernels at LP_NATIVE_VECTOR_WIDTH=$width" \
            env LP_NATIVE_VECTOR_WIDTH="$width" cargo test --locked --all-features --test kernels
    done
    step "cargo test, golden vectors in float32 at LP_NATIVE_VECTOR_WIDTH=128" \
        env LP_NATIVE_VECTOR_WIDTH=128 cargo test --locked --all-features --test golden -- bits:: minilm:: float32
else
    skipped="${skipped:+$skipped; }vector widths 128 and 512 (they belong to the software driver)"
fi

# Chromium brings a software driver that has no f16, subgroups of 4 and a tanh that is not a number beyond 89.
SWIFTSHADER=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -f "$SWIFTSHADER" ]; then
    step "cargo test, kernels on SwiftShader" \
        env VK_DRIVER_FILES="$SWIFTSHADER" cargo test --locked --all-features --test kernels
else
    skipped="${skipped:+$skipped; }SwiftShader (Debian's chromium brings it)"
fi

# Cooperative matrices are in no release of Mesa that machines of today have; nothing else runs them without a GPU.
current="setting up a driver with cooperative matrices"
if adapter_is_lavapipe && ensure_mesa_matrices "$ROOT/.vectile/mesa"; then
    step "cargo test, kernels on cooperative matrices" \
        env CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$ROOT/.vectile/mesa/run" VECTILE_REQUIRE_COOPERATIVE=1 \
        cargo test --locked --all-features --test kernels -- cooperative:: matmul:: attention:: experts::matmul experts::rows_have
else
    skipped="${skipped:+$skipped; }cooperative matrices (no Mesa that has them on the CPU could be unpacked)"
fi

step "benches, each once" cargo test --locked --all-features --benches
current=end
