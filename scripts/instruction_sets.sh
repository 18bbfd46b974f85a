#!/usr/bin/env bash
# Tests the CPU's kernels with the instruction sets of older processors, in QEMU. The tests compare every architecture
# with the golden vectors in f32. QEMU emulates each instruction, so the tests take about ten minutes for
# each processor.
#
#   scripts/instruction_sets.sh [FAMILY]      FAMILY is a part of a directory's name in tests/fixtures/families
#
# Nehalem has no AVX, and Haswell has AVX2 but no AVX-512. For ARM (NEON), the last step only checks that the library
# compiles.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

[ "$(uname -sm)" = "Linux x86_64" ] || die "the tests of instruction sets need Linux on x86_64."
ensure_cargo
have qemu-x86_64 || apt_install qemu-user || die "qemu-x86_64 is missing; install QEMU's user mode (Debian: qemu-user)."

export VECTILE_ADAPTER=cpu VECTILE_REQUIRE_ADAPTER=1
[ -z "${1:-}" ] || export VECTILE_FAMILY=$1
for processor in Nehalem Haswell; do
    say "golden vectors on $processor"
    env CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu $processor" \
        cargo test --locked --all-features --test golden -- families::float32 --skip kernels_for_gpus
done

ARM_TARGET=aarch64-unknown-linux-gnu
if have rustup && { rustup target list --installed | grep -qx "$ARM_TARGET" || rustup target add "$ARM_TARGET"; }; then
    say "cargo check for $ARM_TARGET"
    cargo check --locked --no-default-features --features cpu --lib --target "$ARM_TARGET"
else
    die "the check for ARM needs rustup's target $ARM_TARGET."
fi
