#!/usr/bin/env bash
# Runs fuzz targets: scripts/fuzz.sh TARGET|all MINUTES
#
# Each target runs for MINUTES and starts from the inputs of fuzz/corpus. Inputs that reach new code are kept in
# .vectile/fuzz/TARGET for later runs. An input that breaks a promise is written to .vectile/fuzz/faults. The script
# prints the number of executions, of branches that were reached, and of faults. For each target, it adds a line to
# fuzz/executions.csv. It fails if there is a fault.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

LEAN=(weights index config tokenizer wgsl)
PROGRAM=(http input)
LOG=fuzz/executions.csv
WORK=.vectile/fuzz
# libFuzzer stops a target that needs more seconds for one input, or more MiB of memory.
SECONDS_PER_INPUT=5
MEMORY=2048

usage() { die "usage: scripts/fuzz.sh TARGET|all MINUTES; the targets are ${LEAN[*]} ${PROGRAM[*]}"; }
[ $# = 2 ] || usage
minutes=$2
[[ $minutes =~ ^[0-9]+$ ]] && [ "$minutes" -gt 0 ] || usage
case $1 in
    all) targets=("${LEAN[@]}" "${PROGRAM[@]}") ;;
    *)
        [[ " ${LEAN[*]} ${PROGRAM[*]} " == *" $1 "* ]] || usage
        targets=("$1")
        ;;
esac

ensure_cargo
have rustup || die "rustup is missing; cargo-fuzz needs the nightly compiler, which rustup installs."
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
have cargo-fuzz || cargo install cargo-fuzz --locked

# binary TARGET: builds a target and prints the path of its program. It builds without the address sanitizer, which
# halves the speed, and finds mostly faults of unsafe code.
binary() {
    local features=() directory=${CARGO_TARGET_DIR:-fuzz/target} host
    [[ " ${PROGRAM[*]} " != *" $1 "* ]] || features=(--features program)
    cargo +nightly fuzz build "$1" --sanitizer none ${features[@]+"${features[@]}"} >&2
    host=$(rustc +nightly -vV | sed -n 's/^host: //p')
    printf '%s\n' "$directory/$host/release/$1"
}

# value NAME FILE: prints the value of the statistic NAME at the end of libFuzzer's log FILE.
value() { sed -n "s/^stat::$1: *//p" "$2" | tail -n 1; }

faults=0
for target in "${targets[@]}"; do
    program=$(binary "$target")
    mkdir -p "$WORK/$target" "$WORK/faults"
    log=$WORK/$target.log
    say "$target: $minutes minutes"
    status=0
    started=$SECONDS
    "$program" "$WORK/$target" "fuzz/corpus/$target" -max_total_time=$((minutes * 60)) -timeout="$SECONDS_PER_INPUT" \
        -rss_limit_mb="$MEMORY" -max_len=4096 -len_control=20 -print_final_stats=1 -artifact_prefix="$WORK/faults/$target-" \
        >"$log" 2>&1 || status=$?
    executions=$(value number_of_executed_units "$log")
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)
    added=$(value new_units_added "$log")
    found=0
    # libFuzzer ends with 72 if a signal interrupts the run.
    if [ "$status" != 0 ] && [ "$status" != 72 ]; then
        found=1
        faults=$((faults + 1))
        tail -n 12 "$log"
    fi
    note "${executions:-0} executions, ${edges:-0} edges of code, ${added:-0} new inputs, $found faults"
    [ -f "$LOG" ] || echo "date,target,seconds,executions,edges,new inputs,faults" >"$LOG"
    echo "$(date -u +%F),$target,$((SECONDS - started)),${executions:-0},${edges:-0},${added:-0},$found" >>"$LOG"
done

say "Executions of all runs"
awk -F, 'NR > 1 { sum[$2] += $4; faults[$2] += $7 } END { for (t in sum) printf "    %-10s %12d executions, %d faults\n", t, sum[t], faults[t] }' "$LOG" | sort
[ "$faults" = 0 ] || die "$faults targets found a fault; the inputs are in $WORK/faults."
