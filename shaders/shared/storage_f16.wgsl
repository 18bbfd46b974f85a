// storage_f16: a cell is four f16 values. This storage type needs SHADER_F16. Arithmetic is f32.
enable f16;

alias role_vec4 = vec4<f16>;

// The largest finite value of this storage type.
const role_max: f32 = 65504.0;

fn role_load(cell: role_vec4) -> vec4<f32> {
    return vec4<f32>(cell);
}

fn role_narrow(value: vec4<f32>) -> role_vec4 {
    return vec4<f16>(value);
}
