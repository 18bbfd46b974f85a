// store: declares the function with which every kernel stores activations. If a value exceeds the range of the storage
// type, the function sets the overflow flag of the value's token. The host then runs that token's text again with f32
// activations. Drivers convert such values differently: the result is infinity, the largest finite value, or undefined.
// Infinities can vanish in later arithmetic, so a check of the output rows alone would miss some overflows.

fn act_store(value: vec4<f32>, token: u32) -> act_vec4 {
    // The condition negates `<=`, so that a NaN also sets the flag, on drivers that do not optimise NaNs away.
    if !all(abs(value) <= vec4<f32>(act_max)) {
        set_overflow_flag(token);
    }
    return act_narrow(value);
}
