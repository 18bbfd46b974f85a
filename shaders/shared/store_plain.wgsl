// store_plain: as store, with flags that are not atomic, for cooperative matrices. Their modules use Vulkan's memory
// model, and naga declares it without the scope that atomics of buffers need. Every writer of a flag writes 1.

@group(1) @binding(0) var<storage, read_write> overflowed: array<u32>;

fn act_store(value: vec4<f32>, token: u32) -> act_vec4 {
    // Written so that a NaN sets the flag too, where the driver keeps NaNs.
    if !all(abs(value) <= vec4<f32>(act_max)) {
        overflowed[token] = 1u;
    }
    return act_narrow(value);
}
