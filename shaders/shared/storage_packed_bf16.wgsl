// storage_packed_bf16: a cell is four bf16 values in two u32, with the first value of each pair in the low bits. A bf16
// is the upper half of an f32, so loading is a shift without rounding. This storage type runs on any adapter.

alias role_vec4 = vec2<u32>;

// The largest finite value of this storage type.
const role_max: f32 = 3.3895313e38;

fn role_load(cell: role_vec4) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(
        cell.x << 16u,
        cell.x & 0xffff0000u,
        cell.y << 16u,
        cell.y & 0xffff0000u,
    ));
}

// Returns the values rounded to bf16, to nearest with ties to even. The addition that rounds can turn an infinity or
// NaN into another value. The overflow flags of `act_store` and the host's check of the output rows still detect such
// values.
fn role_narrow(value: vec4<f32>) -> role_vec4 {
    let bits = bitcast<vec4<u32>>(value);
    let rounded = (bits + 0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))) >> vec4<u32>(16u);
    return vec2<u32>(rounded.x | (rounded.y << 16u), rounded.z | (rounded.w << 16u));
}
