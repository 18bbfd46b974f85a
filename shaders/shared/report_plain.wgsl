// report_plain: kernels with cooperative matrices use it instead of `report`. It has no atomics. The shader modules of
// these kernels use Vulkan's memory model, which naga declares without the scope that atomics in buffers need. Atomics
// are not necessary: every invocation that sets a flag writes 1, and only one invocation of a dispatch writes the
// receipt.

@group(1) @binding(0) var<storage, read_write> report: array<u32>;

fn set_overflow_flag(token: u32) {
    report[token] = 1u;
}

fn sign(first: bool) {
    if first {
        let receipt = arrayLength(&report) - 1u;
        report[receipt] += report[receipt - 1u];
    }
}
