#!/usr/bin/env bash
# Starts cuda.py with a Python that has torch, transformers and sentence-transformers. PYTHON names this Python. By
# default it is the Python of .vectile/peers, or else python3. VECTILE_PEER names Vectile's worker. By default the
# script builds the worker if cargo is installed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=$ROOT/.vectile/peers/venv/bin/python
    "$python" -c 'import sentence_transformers' 2>/dev/null || python=python3
fi
# The manifest of the NVIDIA driver may lie in a directory that the Vulkan loader does not search.
if [ -z "${VK_DRIVER_FILES:-}" ] && ! vulkan_usable; then
    for manifest in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/local/nvidia/vulkan/icd.d/nvidia_icd.json; do
        [ -f "$manifest" ] && export VK_DRIVER_FILES=$manifest
    done
fi
if [ -z "${VECTILE_PEER:-}" ] && have cargo; then
    cargo build --locked --release --example peer --manifest-path "$ROOT/Cargo.toml" --target-dir "$ROOT/target"
fi
exec "$python" "$ROOT/benches/peers/cuda.py" "$@"
