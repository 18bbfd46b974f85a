#!/usr/bin/env bash
# Sets up the runtimes (peers) that run.py measures, under .vectile/peers. usage: setup.sh PEER... Without arguments the
# script sets up all peers. If a peer cannot be set up, the script prints the reason, writes it to
# .vectile/peers/missing/PEER and continues. A peer that is already set up is not changed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

HERE=$ROOT/benches/peers
PEERS=$ROOT/.vectile/peers
VENV=$PEERS/venv
LLAMA_CPP_PYTHON=0.3.36
# The Vulkan backend of llama.cpp needs headers of this version or later.
VULKAN_HEADERS=1.3.272
ALL="vectile sentence-transformers onnxruntime rten candle llama.cpp burn transformers.js"

# needs WHAT COMMAND...: runs COMMAND with its output in a log. If COMMAND fails, REASON gets the last line of the log.
needs() {
    local what=$1 log=$PEERS/log/setup.log
    shift
    mkdir -p "$PEERS/log"
    note "$what"
    if ! "$@" >"$log" 2>&1; then
        REASON="$what failed: $(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | cut -c1-200)"
        cp "$log" "$PEERS/log/failed-$(printf '%s' "$what" | tr -c 'a-zA-Z0-9\n' '-').log"
        return 1
    fi
}

virtual_environment() {
    [ -x "$VENV/bin/python" ] || needs "a virtual environment" python3 -m venv "$VENV"
}

# measuring: installs numpy, which run.py needs for all peers.
measuring() {
    virtual_environment || return 1
    "$VENV/bin/python" -c 'import numpy' 2>/dev/null && return 0
    needs "numpy" "$VENV/bin/python" -m pip install --disable-pip-version-check --only-binary :all: "$(grep '^numpy==' "$HERE/requirements.txt")"
}

python_environment() {
    cmp -s "$HERE/requirements.txt" "$VENV/requirements.txt" && return 0
    virtual_environment || return 1
    needs "Python packages (torch brings some 3 GB)" "$VENV/bin/python" -m pip install --disable-pip-version-check --only-binary :all: --requirement "$HERE/requirements.txt" || return 1
    cp "$HERE/requirements.txt" "$VENV/requirements.txt"
}

onnx_export() {
    [ -s "$PEERS/onnx/model/onnx/model.onnx" ] && return 0
    needs "exporting the model to ONNX" "$VENV/bin/python" "$HERE/workers/export_onnx.py" "$MODEL_DIR" "$PEERS/onnx/model"
}

setup_vectile() {
    [ -n "${VECTILE_PEER:-}" ] && return 0
    ensure_cargo
    needs "cargo build --release --example peer" cargo build --locked --release --example peer --manifest-path "$ROOT/Cargo.toml" --target-dir "$ROOT/target"
}

setup_sentence_transformers() { python_environment; }

setup_onnxruntime() { python_environment && onnx_export; }

# rust_peer NAME: builds a peer in Rust. It is a separate cargo project, so that it does not affect Vectile's lock file
# and builds.
rust_peer() {
    ensure_cargo
    needs "cargo build of $1-peer" cargo build --locked --release --manifest-path "$HERE/workers/$1/Cargo.toml" --target-dir "$PEERS/target/$1"
}

setup_rten() { python_environment && onnx_export && rust_peer rten; }

setup_candle() { rust_peer candle; }

setup_burn() { rust_peer burn; }

# newer_vulkan_headers: if the installed Vulkan headers are too old, unpacks those of the next Debian without installing
# them.
newer_vulkan_headers() {
    local have=0 at=$PEERS/vulkan-headers
    if [ -f /usr/include/vulkan/vulkan_core.h ]; then
        have=1.3.$(awk '/define VK_HEADER_VERSION / {print $3}' /usr/include/vulkan/vulkan_core.h)
        grep -q 'VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 3,' /usr/include/vulkan/vulkan_core.h || have=9
    fi
    if [ "$(printf '%s\n' "$VULKAN_HEADERS" "$have" | sort -V | head -n 1)" = "$VULKAN_HEADERS" ]; then
        HEADERS=
        return 0
    fi
    HEADERS=$at/root/usr/include
    [ -f "$HEADERS/vulkan/vulkan.hpp" ] && return 0
    unpack_newer_debian "$at" "libvulkan-dev/$NEWER_DEBIAN" || return 1
    [ -f "$HEADERS/vulkan/vulkan.hpp" ]
}

llama_cpp_build() {
    local at=$PEERS/llama.cpp
    if [ ! -f "$at/built" ]; then
        if ! { have cmake && have glslc && have g++; } || [ ! -f /usr/include/vulkan/vulkan.hpp ] || ! compgen -G '/usr/*/cmake/SPIRV-Headers*' >/dev/null; then
            needs "a compiler, CMake and Vulkan's tools" apt_install g++ cmake ninja-build glslc libvulkan-dev spirv-headers || return 1
        fi
        needs "Vulkan headers of $VULKAN_HEADERS or later" newer_vulkan_headers || return 1
        mkdir -p "$at"
        needs "the sources of llama-cpp-python" "$VENV/bin/python" -m pip download --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
            --dest "$at" "llama-cpp-python==$LLAMA_CPP_PYTHON" || return 1
        tar xzf "$at/llama_cpp_python-$LLAMA_CPP_PYTHON.tar.gz" -C "$at" --strip-components 1
        needs "compiling llama.cpp with Vulkan (some 6 minutes on two cores)" env \
            CMAKE_ARGS="-DGGML_VULKAN=ON -DLLAVA_BUILD=OFF${HEADERS:+ -DVulkan_INCLUDE_DIR=$HEADERS}" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" \
            "$VENV/bin/python" -m pip install --disable-pip-version-check --no-binary llama-cpp-python --no-deps "$at/llama_cpp_python-$LLAMA_CPP_PYTHON.tar.gz" || return 1
        needs "what it imports" "$VENV/bin/python" -m pip install --disable-pip-version-check --only-binary :all: diskcache jinja2 || return 1
        touch "$at/built"
    fi
}

llama_cpp_weights() {
    local at=$PEERS/llama.cpp type
    for type in f32 f16; do
        [ -s "$PEERS/gguf/model-$type.gguf" ] && continue
        mkdir -p "$PEERS/gguf"
        needs "converting the model to GGUF $type" env PYTHONPATH="$at/vendor/llama.cpp/gguf-py" "$VENV/bin/python" "$at/vendor/llama.cpp/convert_hf_to_gguf.py" \
            "$MODEL_DIR" --outtype "$type" --outfile "$PEERS/gguf/model-$type.part" || return 1
        mv "$PEERS/gguf/model-$type.part" "$PEERS/gguf/model-$type.gguf"
    done
}

setup_llama_cpp() { python_environment && llama_cpp_build && llama_cpp_weights; }

setup_transformers_js() {
    local at=$PEERS/web
    if ! have node || ! have npm; then
        REASON="there is no Node with npm"
        return 1
    fi
    if ! ensure_chromium; then
        REASON="there is no Chromium"
        return 1
    fi
    python_environment && onnx_export || return 1
    cmp -s "$HERE/workers/package.json" "$at/package.json" && [ -d "$at/node_modules/playwright-core" ] && return 0
    mkdir -p "$at"
    cp "$HERE/workers/package.json" "$at/"
    # Install scripts are disabled, because those of the dependencies download programs for Node, which a browser does
    # not need.
    needs "transformers.js and playwright-core" npm install --prefix "$at" --ignore-scripts --no-audit --no-fund
}

ensure_model "$MODEL_DIR"
mkdir -p "$PEERS/missing"
measuring || die "$REASON"
for peer in "${@:-$ALL}"; do
    for name in $peer; do
        case " $ALL " in
        *" $name "*) ;;
        *) die "$name is no peer; there are: $ALL" ;;
        esac
        say "Peer: $name"
        REASON=
        rm -f "$PEERS/missing/$name"
        if ! "setup_$(printf '%s' "$name" | tr '.-' '__')"; then
            printf '%s\n' "${REASON:-it could not be set up}" >"$PEERS/missing/$name"
            note "left out: ${REASON:-it could not be set up}"
        fi
    done
done
