#!/usr/bin/env bash
# Starts cuda.py with a Python that has torch, transformers and sentence-transformers: the one that PYTHON names, that of
# .vectile/peers, or python3. Vectile's worker is the one that VECTILE_PEER names, or is built where there is cargo.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=$ROOT/.vectile/peers/venv/bin/python
    "$python" -c 'import sentence_transformers' 2>/dev/null || python=python3
fi
# The NVIDIA driver's manifest may lie where no loader looks for it.
if [ -z "${VK_DRIVER_FILES:-}" ] && ! vulkan_usable; then
    for manifest in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/local/nvidia/vulkan/icd.d/nvidia_icd.json; do
        [ -f "$manifest" ] && export VK_DRIVER_FILES=$manifest
    done
fi
if [ -z "${VECTILE_PEER:-}" ] && have cargo; then
    cargo build --locked --release --example peer --manifest-path "$ROOT/Cargo.toml" --target-dir "$ROOT/target"
fi
exec "$python" "$ROOT/benches/peers/cuda.py" "$@"
