// store_plain: as store, with marks that are no atomics: for cooperative matrices, whose modules have
// Vulkan's memory model, and naga declares it without the scope that atomics of buffers need. Whoever
// writes a mark writes the same 1.

@group(1) @binding(0) var<storage, read_write> overflowed: array<u32>;

fn act_store(value: vec4<f32>, token: u32) -> act_vec4 {
    // Written so that a NaN, where the driver keeps it, marks too.
    if !all(abs(value) <= vec4<f32>(act_max)) {
        overflowed[token] = 1u;
    }
    return act_narrow(value);
}
