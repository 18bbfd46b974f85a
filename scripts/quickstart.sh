#!/usr/bin/env bash
# Downloads a model, builds the program and searches a small collection, so that a fresh checkout gives a first result. The script
# installs no driver, because the program computes on the CPU if the machine has no GPU.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

VECTILE=${CARGO_TARGET_DIR:-target}/release/vectile
MODEL=.vectile/models/all-MiniLM-L6-v2
TEXTS=examples/collection.txt

ensure_cargo
ensure_model "$MODEL_DIR"

say "Build: cargo build --release (a few minutes the first time)"
cargo build --release --locked
[ -x "$VECTILE" ] || VECTILE=$VECTILE.exe

say "Adapter: the first of this list"
"$VECTILE" adapters
note "To use a GPU that is not listed, install its Vulkan driver. To choose an adapter: --adapter NAME"

wrong=0

# search QUESTION BEGINNING: searches for QUESTION, and checks that the best passage starts with BEGINNING.
search() {
    say "Search: \"$1\""
    note "expected first: \"$2…\""
    local found
    found=$("$VECTILE" search "$1" --model "$MODEL" --in "$TEXTS" --top 5)
    printf '\n%s\n\n' "$found"
    # A table may break lines inside a passage, so the function compares only the first words of the passage.
    local best
    best=$("$VECTILE" search "$1" --model "$MODEL" --in "$TEXTS" --top 1 2>/dev/null)
    case $best in
    *"$2"*) note "right" ;;
    *)
        note "WRONG: another passage is first"
        wrong=1
        ;;
    esac
}

say "$TEXTS has $(($(wc -l <"$TEXTS"))) passages; the questions share no key word with their answers"
search "How do I keep bread from going stale?" "A fresh loaf"
search "How can I stop a faucet from leaking?" "A tap that drips"

# similarity LOW HIGH TEXT TEXT: checks that the cosine of the two texts is between LOW and HIGH.
similarity() {
    say "Similarity: \"$3\" and \"$4\""
    note "sentence-transformers gives about $(awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", (a + b) / 2 }')"
    local out score
    out=$("$VECTILE" similarity --model "$MODEL" "$3" "$4")
    printf '\n%s\n\n' "$out"
    score=$(printf '%s\n' "$out" | grep -Eo -- '-?[01]\.[0-9]+' | tail -n 1 || true)
    if [ -n "$score" ] && awk -v s="$score" -v a="$1" -v b="$2" 'BEGIN { exit !(s >= a && s <= b) }'; then
        note "right"
    else
        note "WRONG: expected a cosine between $1 and $2"
        wrong=1
    fi
}

similarity 0.733 0.753 "A cat is sleeping on the sofa." "The kitten naps on the couch."
similarity 0.098 0.118 "A cat is sleeping on the sofa." "The parliament voted on the new budget."

say "Embed: every passage into .vectile/collection.npy"
"$VECTILE" embed --model "$MODEL" --input "$TEXTS" --output .vectile/collection.npy --format npy
# The file must contain a header and 384 f32 values for each passage.
bytes=$(wc -c <.vectile/collection.npy)
rows=$(wc -l <"$TEXTS")
if [ "$bytes" -gt $((rows * 384 * 4)) ] && [ "$bytes" -lt $((rows * 384 * 4 + 1024)) ]; then
    note "right: $((rows)) rows of 384 values, $((bytes)) bytes"
else
    note "WRONG: expected $((rows)) rows of 384 values, got $((bytes)) bytes"
    wrong=1
fi

if [ "$wrong" != 0 ]; then
    die "at least one result above differs from that of sentence-transformers. Run: $VECTILE verify $MODEL"
fi
say "All results are right. Now try your own:"
note "$VECTILE search \"Why does the Moon always show the same face?\" --model $MODEL --in $TEXTS"
