#!/usr/bin/env bash
# Unpacks drivers of GPUs that the machine lacks. Compiles every kernel with these drivers, and prints figures of the
# compiled code, such as the number of registers: `scripts/compilers.sh --gpu navi31 --kernel matmul`. `--help` lists
# the arguments. benches/README.md explains the figures.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Paths in the arguments are relative to the root of the repository.
ensure_cargo
export VECTILE_SILENT_DRIVERS=${VECTILE_SILENT_DRIVERS:-$ROOT/.vectile/mesa}
if [ ! -x "$VECTILE_SILENT_DRIVERS/silent" ] || ! grep -q gfx1201 "$VECTILE_SILENT_DRIVERS/silent"; then
    ensure_mesa_matrices "$VECTILE_SILENT_DRIVERS" && ensure_silent_drivers "$VECTILE_SILENT_DRIVERS" ||
        die "the drivers could not be unpacked. They need apt-get, dpkg and Debian's archive keyring on Linux x86_64."
fi
# The bench is built without optimization, because the drivers' compilers do most of the work.
exec cargo test --quiet --locked --all-features --manifest-path "$ROOT/Cargo.toml" --bench compilers -- "$@"
