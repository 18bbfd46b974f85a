// report_plain: replaces `report`, without atomics, in kernels with cooperative matrices. The modules of these kernels
// use Vulkan's memory model. naga declares this model without the scope that atomics in buffers need. No atomics are
// necessary: every writer of a flag writes 1, and one invocation of a dispatch writes the receipt.

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
