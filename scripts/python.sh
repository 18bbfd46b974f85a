#!/usr/bin/env bash
# Builds the Python package, installs it into a fresh virtual environment and runs its tests.
# usage: scripts/python.sh [wheel | SUITE...]   With `wheel`, the script only builds the release wheel, into dist/. The suites are
# package, plugins (libraries that use the package, and Daft), ray, and reference (a comparison with sentence-transformers, which
# needs torch). Without arguments, the script runs all suites.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

AT=$ROOT/.vectile/python
PACKAGE=$ROOT/bindings/python
# The maximum size of the wheel in bytes; the script fails if the wheel is larger.
MOST_BYTES=$((30 * 1024 * 1024))
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}

# build_wheel DIR ARGUMENT...: builds the wheel into DIR with maturin's arguments, and prints its path.
build_wheel() {
    local out=$1
    shift
    rm -rf "$out"
    (cd "$PACKAGE" && "$AT/build/bin/maturin" build --quiet --locked --out "$out" "$@") >&2 || return 1
    find "$out" -name '*.whl'
}

ensure_cargo
ensure_venv "Python: tools to build the wheel" "$AT/build" "$PACKAGE/requirements-build.txt" || die "maturin could not be installed; install Python 3.10 or later with pip."

if [ "${1:-}" = wheel ]; then
    wheel=$(build_wheel "$AT/release" --release --strip)
    bytes=$(wc -c <"$wheel")
    [ "$bytes" -le "$MOST_BYTES" ] || die "$wheel has $bytes bytes; at most $MOST_BYTES are allowed."
    mkdir -p dist
    cp "$wheel" dist/
    (cd dist && printf '%s  %s\n' "$(sha256 "$(basename "$wheel")")" "$(basename "$wheel")" >"$(basename "$wheel").sha256")
    note "dist/$(basename "$wheel"): $((bytes / 1024)) KiB"
    exit 0
fi

say "Python: building the wheel"
# The wheel is built with the features and the profile of the library's tests, so that cargo reuses the compiled crates.
wheel=$(build_wheel "$AT/dev" --profile dev --features shared-build)

# test_in VENV REQUIRED TEST...: installs the wheel into VENV and runs tests with it. If a package in REQUIRED is
# missing, tests fail. The tests import the installed package, not the sources of the repository.
test_in() {
    local python=$AT/$1/bin/python required=$2
    shift 2
    "$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    (cd "$PACKAGE/tests" && VECTILE_REQUIRE_PYTHON=$required "$python" -m pytest -q -p no:cacheprovider \
        -c "$PACKAGE/pyproject.toml" --rootdir "$PACKAGE/tests" "$@")
}

export VECTILE_REQUIRE_ADAPTER=1
[ -n "${VECTILE_TEST_MODEL:-}" ] || export VECTILE_TEST_MODEL=$MODEL_DIR
[ $# -gt 0 ] || set -- package plugins ray reference
for suite in "$@"; do
    case $suite in
    package)
        say "Python: tests without torch"
        ensure_venv "Python: packages of the tests" "$AT/tests" "$PACKAGE/requirements-tests.txt" ||
            die "the packages of the tests could not be installed."
        test_in tests pyarrow,polars,pandas,duckdb test_data.py test_docs.py test_threads.py
        ;;
    plugins | ray)
        say "Python: $suite"
        if ! ensure_venv "Python: packages that use the package" "$AT/plugins" "$PACKAGE/requirements-plugins.txt"; then
            say "SKIPPED: Python, $suite (its packages could not be installed)"
        elif [ "$suite" = plugins ]; then
            test_in plugins langchain_core,langchain_tests,llama_index,haystack,chromadb,daft --asyncio-mode=auto test_plugins.py
        else
            test_in plugins ray,pyarrow test_ray.py
        fi
        ;;
    reference)
        # The comparison needs torch, which is large. A machine without space or network for torch skips the comparison.
        say "Python: comparison with sentence-transformers"
        if ensure_venv "Python: packages to compare with" "$AT/reference" "$PACKAGE/requirements-reference.txt"; then
            test_in reference torch,sentence_transformers,mypy,mteb test_reference.py test_docs.py test_plugins.py
        else
            say "SKIPPED: the comparison with sentence-transformers (torch could not be installed)"
        fi
        ;;
    *) die "unknown suite: $suite; use package, plugins, ray or reference." ;;
    esac
done
