// storage_packed_f16: a cell is four f16 values in two u32, with the first value of each pair in the low bits. This
// storage type needs only core WGSL, so it runs on any adapter, with or without SHADER_F16.

alias role_vec4 = vec2<u32>;

// The largest finite value of this storage type.
const role_max: f32 = 65504.0;

fn role_load(cell: role_vec4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(cell.x), unpack2x16float(cell.y));
}

fn role_narrow(value: vec4<f32>) -> role_vec4 {
    return vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}
