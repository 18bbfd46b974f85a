#!/usr/bin/env bash
# Repeats the measurements of RELIABILITY.md.
#   scripts/reliability.sh            lists the steps, and how long each took on two cores with a software driver
#   scripts/reliability.sh NAME...    runs the steps NAME in this order
#   scripts/reliability.sh all        runs all steps
# The script prints the figures of each step. It exits with 1 if a step failed, after it has run the others.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

# Each line has a step's name, its minutes without compiling, and its question.
STEPS="models 2 Are damaged and hostile models and texts refused with a clear error?
fuzz 15 Do hostile files and requests crash nothing, in a minute for each target?
texts 5 Do 200 difficult texts and random batches of every family give the rows of the CPU?
batches 12 Are rows bit-identical in 1,000 random batches, and in a hundred repeats?
kernels 6 Does every kernel agree with its reference?
calls 60 Does every call to the device fail cleanly, in every way?
losses 8 Does a server under load survive 200 lost devices?
answers 1 Which wrong answers of a driver are noticed, with and without --paranoid?
limits 2 Do devices with low limits give the same rows, or an error at load?
health 1 Is a server ready only after a correct forward pass?
load 12 Does the server survive overload, signals, disconnections and a hundred thousand requests?
vocabulary 3 Does a table of 250,002 rows work with bindings of 128 MiB?
kills 15 Do 200 killed runs resume to a byte-identical output?
files 2 Does each system call of embed fail cleanly, and does the run resume?
days 4 Does the server's queue survive 72 simulated hours of load?
schedules 6 Does the server's queue survive 100,000 schedules of its threads?
outside 2 Does the server survive hostile clients, low limits and a closed log?
drivers 5 Is a driver noticed that computes nothing?"

# suite NAME FILTER...: runs the tests of the suite NAME whose names contain a FILTER, and prints their figures.
suite() {
    local name=$1
    shift
    cargo test --locked --all-features --test "$name" -- --nocapture --test-threads=1 "$@"
}

run_step() {
    case $1 in
        models) suite bad_input ;;
        fuzz) scripts/fuzz.sh all "${FUZZ_MINUTES:-1}" ;;
        texts) VECTILE_RANDOM_BATCHES=${VECTILE_RANDOM_BATCHES:-10} suite golden differential:: ;;
        batches) VECTILE_BATCHES=${VECTILE_BATCHES:-1000} suite golden bits:: ;;
        kernels) VECTILE_SHAPES=${VECTILE_SHAPES:-500} suite kernels ;;
        calls)
            VECTILE_EVERY_FAULT=1 suite golden faults:: loss::
            VECTILE_EVERY_FAULT=1 suite server faults::every_call
            ;;
        losses) VECTILE_LOSSES=${VECTILE_LOSSES:-200} suite server faults::a_server ;;
        answers) suite golden wrong_answers:: ;;
        limits)
            suite golden limits::
            suite dry_run
            ;;
        health) suite server health:: ;;
        load) cargo bench --locked --all-features --bench soak ;;
        vocabulary) suite size a_table ;;
        kills) VECTILE_KILLS=${VECTILE_KILLS:-50} suite cli resume::a_killed_run ;;
        files) suite cli faults:: ;;
        days) VECTILE_SIMULATED_HOURS=72 cargo test --locked --all-features --lib -- --nocapture days_of_load ;;
        schedules) VECTILE_SCHEDULES=${VECTILE_SCHEDULES:-100000} cargo test --locked --all-features --test schedules ;;
        outside)
            suite server outside::
            suite serve outside::
            ;;
        drivers)
            ensure_mesa_matrices "$ROOT/.vectile/mesa" && ensure_silent_drivers "$ROOT/.vectile/mesa" || return 1
            VECTILE_SILENT_DRIVERS=$ROOT/.vectile/mesa suite silent_drivers
            ;;
        *) return 2 ;;
    esac
}

names() { awk '{ print $1 }' <<<"$STEPS"; }

list() {
    printf 'usage: scripts/reliability.sh all | NAME...\n\n'
    awk '{ name = $1; minutes = $2; $1 = $2 = ""; sub(/^ +/, ""); printf "%-12s %3d min  %s\n", name, minutes, $0 }' <<<"$STEPS"
}

if [ $# = 0 ]; then
    list
    exit 0
fi
# shellcheck disable=SC2046
[ "$*" != all ] || set -- $(names)
for name in "$@"; do
    names | grep -qx -- "$name" || die "there is no step \`$name\`; the steps are: $(names | tr '\n' ' ')"
done

ensure_cargo
ensure_vulkan
export VECTILE_REQUIRE_ADAPTER=1
export VECTILE_TEST_MODEL=${VECTILE_TEST_MODEL:-$MODEL_DIR}
failed=
for name in "$@"; do
    minutes=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$STEPS")
    say "$name (about $minutes minutes; $(date +%F))"
    started=$SECONDS
    if run_step "$name"; then
        note "$name: passed in $((SECONDS - started)) s"
    else
        note "$name: FAILED after $((SECONDS - started)) s"
        failed="$failed $name"
    fi
done
[ -z "$failed" ] || die "failed:$failed"
