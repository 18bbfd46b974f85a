#!/usr/bin/env bash
# Compares Vectile with other runtimes. The script sets up missing runtimes under .vectile/peers, measures all in one run,
# prints a table, and writes the table as JSON under benches/results.
#
#     benches/peers/run.sh [--only vectile,llama.cpp,burn] [--no-setup | --setup-only] [OPTIONS OF run.py]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
HERE=$ROOT/benches/peers

only='' setup=1 measure=1 options=()
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=${2:?--only needs names} && shift ;;
    --no-setup) setup= ;;
    --setup-only) measure= ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0" && exec python3 "$HERE/run.py" --help ;;
    *) options+=("$1") ;;
    esac
    shift
done
ensure_vulkan
if [ -n "$setup" ]; then
    # shellcheck disable=SC2086
    "$HERE/setup.sh" ${only//,/ }
fi
[ -n "$measure" ] || exit 0
python=$ROOT/.vectile/peers/venv/bin/python
"$python" -c 'import numpy' 2>/dev/null || python=python3
exec "$python" "$HERE/run.py" --model "$MODEL_DIR" ${only:+--only "$only"} ${options[@]+"${options[@]}"}
