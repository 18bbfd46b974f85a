#!/usr/bin/env bash
# Builds the Python package, installs it into a fresh virtual environment and runs its tests.
# usage: scripts/python.sh [wheel]   With `wheel` it only builds the release wheel, into dist/.
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

ensure_vulkan
say "Python: building the wheel"
# The build uses the features and the profile of the library's tests, so that cargo reuses the compiled crates.
wheel=$(build_wheel "$AT/dev" --profile dev --features shared-build)
ensure_venv "Python: packages of the tests" "$AT/tests" "$PACKAGE/requirements-tests.txt" || die "the packages of the tests could not be installed."
python=$AT/tests/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"

say "Python: tests without torch"
export VECTILE_REQUIRE_ADAPTER=1
[ -n "${VECTILE_TEST_MODEL:-}" ] || export VECTILE_TEST_MODEL=$MODEL_DIR
# The tests import the installed package, not the sources beside the tests.
(cd "$PACKAGE/tests" && "$python" -m pytest -q -p no:cacheprovider -c "$PACKAGE/pyproject.toml" --rootdir "$PACKAGE/tests" . \
    --ignore test_reference.py --ignore test_plugins.py --ignore test_ray.py)

say "Python: packages that use the package, Ray and Daft"
if ensure_venv "Python: packages that use the package" "$AT/plugins" "$PACKAGE/requirements-plugins.txt"; then
    python=$AT/plugins/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    (cd "$PACKAGE/tests" && VECTILE_REQUIRE_PYTHON=langchain_core,langchain_tests,llama_index,haystack,chromadb,daft,ray \
        "$python" -m pytest -q -p no:cacheprovider -c "$PACKAGE/pyproject.toml" --rootdir "$PACKAGE/tests" --asyncio-mode=auto \
        test_plugins.py test_ray.py)
else
    say "SKIPPED: the packages that use the package, Ray and Daft (they could not be installed)"
fi

# The comparison needs torch, which is large. A machine without space or network for torch skips the comparison, with a message.
say "Python: comparison with sentence-transformers"
if ensure_venv "Python: packages to compare with" "$AT/reference" "$PACKAGE/requirements-reference.txt"; then
    python=$AT/reference/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    (cd "$PACKAGE/tests" && VECTILE_REQUIRE_PYTHON=torch,sentence_transformers,mypy,mteb "$python" -m pytest -q -p no:cacheprovider \
        -c "$PACKAGE/pyproject.toml" --rootdir "$PACKAGE/tests" test_reference.py test_docs.py test_plugins.py)
else
    say "SKIPPED: the comparison with sentence-transformers (torch could not be installed)"
fi
