#!/usr/bin/env bash
# Builds the npm package, and tests it in Node and in Chromium.
# usage: scripts/web.sh [check | build | test]   `check` compiles the library and the package's crate for wasm32. `build`
# makes dist/web and dist/vectile-VERSION.tgz. `test` runs the tests on the package in dist/web. Without an argument the
# script does all of it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/cross.sh
. "$ROOT/scripts/cross.sh"
cd "$ROOT"

TARGET=wasm32-unknown-unknown
CRATE=$ROOT/bindings/web
TOOLS=$ROOT/.vectile/web
OUT=$ROOT/dist/web
# The maximum size of the package, compressed, in bytes; the script fails if the package is larger.
MOST_BYTES=$((1800 * 1000))
export CARGO_TARGET_DIR=${VECTILE_WASM_TARGET_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}}

# Cargo reads the settings of a target from the directory in which it runs, so it runs in the crate's directory.
in_crate() { (cd "$CRATE" && cross "$TARGET" "$@"); }

check() {
    say "wasm32: the library alone, with the CPU, and the package's crate"
    cross "$TARGET" cargo check --quiet --locked --no-default-features --lib --target "$TARGET"
    cross "$TARGET" cargo check --quiet --locked --no-default-features --features cpu --lib --target "$TARGET"
    in_crate cargo check --quiet --locked --target "$TARGET"
}

# ensure_tools: installs wasm-opt, and wasm-bindgen in the version of the crate, into TOOLS.
ensure_tools() {
    ensure_node_packages "wasm-opt" "$TOOLS/node" "$CRATE/tools" || die "wasm-opt could not be installed; install Node 20 or later with npm."
    local version
    version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p;}' "$CRATE/Cargo.lock")
    [ "$("$TOOLS/bin/wasm-bindgen" --version 2>/dev/null)" = "wasm-bindgen $version" ] && return 0
    say "wasm-bindgen $version: compiling it into ${TOOLS#"$ROOT"/}"
    CARGO_TARGET_DIR=$TOOLS/target cargo install --quiet wasm-bindgen-cli --version "$version" --root "$TOOLS" || return 1
    rm -rf "$TOOLS/target"
}

build() {
    ensure_tools || die "wasm-bindgen could not be compiled."
    say "the npm package: $(in_crate rustc --version)"
    in_crate cargo build --quiet --locked --release --target "$TARGET"
    rm -rf "$OUT"
    mkdir -p "$OUT"
    "$TOOLS/bin/wasm-bindgen" --target web --no-typescript --out-dir "$OUT" \
        "$CARGO_TARGET_DIR/$TARGET/release/vectile_web.wasm"
    # The `--enable` options are the WebAssembly features of rustc's target, and `simd128`. Every browser with WebGPU
    # has these features.
    node "$TOOLS/node/node_modules/binaryen/bin/wasm-opt" -Oz --enable-simd --enable-bulk-memory \
        --enable-bulk-memory-opt --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals \
        --enable-reference-types --enable-multivalue --enable-extended-const --strip-debug --strip-producers \
        "$OUT/vectile_web_bg.wasm" -o "$OUT/opt.wasm"
    mv "$OUT/opt.wasm" "$OUT/vectile_web_bg.wasm"
    cp "$CRATE"/js/* "$CRATE/package.json" "$CRATE/README.md" "$ROOT"/LICENSE-* "$OUT/"
    # The site's pages import the package from a directory beside them.
    rm -rf "$ROOT/dist/site"
    cp -R "$CRATE/site" "$ROOT/dist/site"
    cp -R "$OUT" "$ROOT/dist/site/vectile"
    cp "$ROOT/examples/collection.txt" "$ROOT/dist/site/texts.txt"
    local packed bytes
    packed=$(cd "$OUT" && npm pack --silent --pack-destination "$ROOT/dist")
    bytes=$(wc -c <"dist/$packed")
    note "dist/$packed: $((bytes / 1000)) kB; WebAssembly $(($(wc -c <"$OUT/vectile_web_bg.wasm") / 1000)) kB"
    [ "$bytes" -le "$MOST_BYTES" ] || die "dist/$packed has $bytes bytes; at most $MOST_BYTES are allowed."
}

# in_lavapipe COMMAND...: runs COMMAND on a driver that Dawn accepts. Dawn refuses the lavapipe of Debian 12.
in_lavapipe() {
    if [ "$(uname -s)" = Linux ] && ! has_gpu && ensure_mesa_matrices "${VECTILE_MESA:-$ROOT/.vectile/mesa}"; then
        "${VECTILE_MESA:-$ROOT/.vectile/mesa}/run" "$@"
    else
        "$@"
    fi
}

run_tests() {
    export VECTILE_WEB_PACKAGE=$OUT VECTILE_TEST_MODEL=${VECTILE_TEST_MODEL:-$MODEL_DIR}
    ensure_model "$VECTILE_TEST_MODEL"
    export VECTILE_DAWN=${VECTILE_DAWN:-$ROOT/.vectile/dawn} VECTILE_CLIENTS=${VECTILE_CLIENTS:-$ROOT/.vectile/clients}
    ensure_node_packages "WebGPU for Node (Dawn)" "$VECTILE_DAWN" tests/shaders/browser || die "the package webgpu could not be installed."
    ensure_node_packages "Playwright" "$VECTILE_CLIENTS/node" tests/serve/clients || die "playwright-core could not be installed."
    say "the npm package in Node, on Dawn"
    # `node --test` would start another process for each file, and this process would not use the driver's dynamic
    # loader.
    in_lavapipe "$(command -v node)" --test-reporter=spec "$CRATE/tests/node.test.mjs"
    in_lavapipe "$(command -v node)" --test-reporter=spec "$CRATE/tests/families.test.mjs"
    in_lavapipe "$(command -v node)" --test-reporter=spec "$CRATE/tests/bench.test.mjs"
    if ensure_chromium; then
        say "the npm package in Chromium"
        node --test-reporter=spec "$CRATE/tests/browser.test.mjs"
        node --test-reporter=spec "$CRATE/tests/memory.test.mjs"
    else
        note "SKIPPED: the tests in Chromium (it could not be installed)"
    fi
}

ensure_cargo
case ${1:-all} in
check | build | all)
    ensure_target "$TARGET" || die "there is no standard library for $TARGET; run \`rustup target add $TARGET\`."
    ;;
test) ;;
*) die "usage: scripts/web.sh [check | build | test]" ;;
esac
case ${1:-all} in
check) check ;;
build) build ;;
test) run_tests ;;
all)
    check
    build
    run_tests
    ;;
esac
