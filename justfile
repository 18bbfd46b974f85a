# Recipes for everyday work; `just` lists them. Everything they run can be run without just.

export VECTILE_TEST_MODEL := env("VECTILE_TEST_MODEL", justfile_directory() / ".vectile/models/all-MiniLM-L6-v2")

cargo_test := "cargo test --locked --all-features"

_default:
    @just --list

# Format, lints, the library alone and the documentation, without running a test.
check:
    cargo fmt --check
    cargo clippy --locked --all-features --all-targets -- -D warnings
    cargo clippy --locked --no-default-features --lib -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps

# Everything CI runs on Linux; installs what is missing. About an hour on two cores.
test:
    scripts/test.sh

# Random hostile inputs for MINUTES: TARGET is weights, index, config, tokenizer, wgsl, http, input or all.
fuzz TARGET="all" MINUTES="1":
    scripts/fuzz.sh {{ TARGET }} {{ MINUTES }}

# The Windows program on Linux, under Wine. FILTER selects tests of the command line.
windows FILTER="":
    scripts/windows.sh {{ FILTER }}

# Archives of the program for Linux and Windows in dist/.
package:
    scripts/package.sh

# Every kernel: valid in every storage, and right on this machine's adapter. FILTER selects some.
kernels FILTER="":
    {{ cargo_test }} --test shaders
    {{ cargo_test }} --test kernels -- {{ quote(FILTER) }}

# The golden test of the families whose name contains NAME, with its figures.
family NAME:
    VECTILE_FAMILY={{ NAME }} {{ cargo_test }} --test golden families -- --nocapture

# The documentation of the library, in a browser.
docs:
    cargo doc --locked --all-features --no-deps --open

# Benchmarks of every kernel; FILTER selects some: `just bench 'matmul.*packed_f16'`.
bench FILTER="":
    cargo bench --locked --all-features --bench kernels -- {{ quote(FILTER) }}

# Compilers of GPUs that the machine lacks: `just compilers --gpu navi31 --kernel matmul`. Linux only.
compilers *ARGUMENTS:
    scripts/compilers.sh {{ ARGUMENTS }}

# Licences, duplicate versions and sources of dependencies (needs cargo-deny).
deny:
    cargo deny --all-features check
