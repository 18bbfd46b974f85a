// store: every kernel stores activations by the function of this file. A value beyond the range of the storage sets the
// overflow flag of its token. The host then runs that token's text again with f32 activations. Conversions of such
// values differ between drivers: the result is infinity, the largest finite value, or undefined. Infinities can vanish
// in later arithmetic, so a check of the output rows alone would miss some overflows.

fn act_store(value: vec4<f32>, token: u32) -> act_vec4 {
    // The condition negates `<=`, so that a NaN also sets the flag on drivers that keep NaNs.
    if !all(abs(value) <= vec4<f32>(act_max)) {
        set_overflow_flag(token);
    }
    return act_narrow(value);
}
