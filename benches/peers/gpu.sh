#!/usr/bin/env bash
# Checks and measures Vectile on a GPU that it has not run on, in at most ten minutes. The results go to
# benches/results/DATE-ADAPTER, for a commit. No step needs the network.
#
#   benches/peers/gpu.sh [MODEL]      MODEL is a directory, by default all-MiniLM-L6-v2 of scripts/quickstart.sh
#
# VECTILE names the program; by default cargo builds it. VECTILE_ADAPTER names the adapter; by default it is the best
# GPU. VECTILE_RUNNER is a command that runs the program, for example `.vectile/mesa/silent ga100`. RESULTS names
# another directory for the results.
#
# Every step runs, also after a failure. The exit code is 1 if a step failed.
set -uo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

model=${1:-$MODEL_DIR}
[ -f "$model/config.json" ] || die "there is no model in $model. Name a directory, or run scripts/quickstart.sh once."
export VECTILE_ADAPTER=${VECTILE_ADAPTER:-gpu}
if [ -z "${VECTILE:-}" ]; then
    ensure_cargo
    cargo build --locked --release --bin vectile --manifest-path "$ROOT/Cargo.toml" || exit 1
    VECTILE=${CARGO_TARGET_DIR:-$ROOT/target}/release/vectile
fi
# shellcheck disable=SC2206
runner=(${VECTILE_RUNNER:-})
vectile() { ${runner[@]+"${runner[@]}"} "$VECTILE" "$@"; }

# Building is not part of the ten minutes.
readonly MOST=600
begun=$SECONDS
failed=()
lines=()

adapters=$(vectile adapters) || die "vectile adapters failed; check the GPU's driver."
# The first adapter is the best one. Its line, `0: NAME`, gives the directory its name.
name=$(sed -n 's/^0: //p' <<<"$adapters" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9\n' '-' | sed 's/^-*//; s/-*$//' | cut -c1-60)
out=${RESULTS:-$ROOT/benches/results/$(date +%F)-${name:-gpu}}
mkdir -p "$out" || exit 1
printf '%s\n' "$adapters" | tee "$out/adapters.txt"

# step NAME SECONDS COMMAND...: runs COMMAND for at most SECONDS, and no longer than the ten minutes last. Output goes to
# the terminal and to NAME.txt.
step() {
    local name=$1 most=$2 left=$((MOST - (SECONDS - begun))) started=$SECONDS status
    shift 2
    if [ "$left" -lt 5 ]; then
        failed+=("$name")
        lines+=("$(printf '%-10s not run: the ten minutes are over' "$name")")
        return
    fi
    [ "$most" -lt "$left" ] || most=$left
    say "$name: at most $most s"
    timeout --kill-after=5 "$most" "$@" 2>&1 | tee "$out/$name.txt"
    status=${PIPESTATUS[0]}
    if [ "$status" = 0 ]; then
        lines+=("$(printf '%-10s passed, %d s' "$name" $((SECONDS - started)))")
    else
        failed+=("$name")
        [ "$status" != 124 ] || status="124: it took more than $most s"
        lines+=("$(printf '%-10s FAILED, %d s, exit code %s' "$name" $((SECONDS - started)) "$status")")
    fi
}

program=(${runner[@]+"${runner[@]}"} "$VECTILE")
# Verify runs the known answer of every kernel in every storage, and compares vectors with built-in reference vectors.
step verify 150 "${program[@]}" verify "$model" --json "$out/verify.json"
step tune 120 "${program[@]}" tune "$model" --json "$out/tune.json"
step bench 180 "${program[@]}" bench "$model" --quick --kernels --json "$out/bench.json"

# The comparison with CUDA needs an NVIDIA GPU and a Python with torch and sentence-transformers.
python=${PYTHON:-python3}
if "$python" -c 'import torch, sentence_transformers; assert torch.cuda.is_available()' 2>/dev/null &&
    { [ -n "${VECTILE_PEER:-}" ] || have cargo; }; then
    step cuda 240 "$ROOT/benches/peers/cuda.sh" --shapes MiniLM --rounds 2 --json "$out/cuda.json"
else
    lines+=("$(printf '%-10s skipped: %s has no sentence-transformers on CUDA' cuda "$python")")
fi

{
    printf 'vectile %s, commit %s, %s\n' "$(vectile --version | cut -d' ' -f2)" \
        "$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)" "$(date -u +%FT%TZ)"
    printf '%s\n' "${lines[@]}"
    printf 'total      %d s\n' $((SECONDS - begun))
} | tee "$out/summary.txt"
say "results: $out"
[ ${#failed[@]} = 0 ] || {
    say "FAILED: ${failed[*]}"
    exit 1
}
