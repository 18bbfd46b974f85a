// report: declares the buffer that tells the host which tokens overflowed and how many dispatches ran.
//
// - `report`: [tokens + 2] u32: one overflow flag for each token, then the batch's nonce (a number of this batch), then
//   its receipt (a counter).
//
// Every dispatch adds the nonce to the receipt once. The host expects the receipt to be the nonce times the number of
// dispatches. A smaller receipt means that a dispatch did not run. A different nonce means that the report belongs to
// another batch.

@group(1) @binding(0) var<storage, read_write> report: array<atomic<u32>>;

fn set_overflow_flag(token: u32) {
    atomicStore(&report[token], 1u);
}

// Adds the nonce to the receipt. Every entry point starts with a call of this function; `first` is true only in the
// first invocation of the dispatch.
fn sign(first: bool) {
    if first {
        let receipt = arrayLength(&report) - 1u;
        atomicAdd(&report[receipt], atomicLoad(&report[receipt - 1u]));
    }
}
