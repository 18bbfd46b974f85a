// store: declares the functions with which every kernel stores activations. If a value exceeds the range of the storage
// type, the functions set the overflow flag of the value's token. The host then runs that token's text again with f32
// activations. Drivers convert such values differently: the result is infinity, the largest finite value, or undefined.
// Infinities can vanish in later arithmetic, so a check of the output rows alone would miss some overflows.

fn act_store(value: vec4<f32>, token: u32) -> act_vec4 {
    act_check(value, value, token);
    return act_narrow(value);
}

// Sets the overflow flag of a token if a value in either of two cells exceeds the range. One call checks both cells
// with one branch, and the caller then converts each cell with `act_narrow`.
fn act_check(first: vec4<f32>, second: vec4<f32>, token: u32) {
    // The condition negates `<=`, so that a NaN also sets the flag, on drivers that do not optimise NaNs away.
    let most = vec4<f32>(act_max);
    if !all((abs(first) <= most) & (abs(second) <= most)) {
        set_overflow_flag(token);
    }
}
