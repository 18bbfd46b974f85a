// rotate: rotates a pair of neighbouring values by an angle, given as (cos, sin). `rotate_first` rotates the first pair
// of a cell, and `rotate_second` rotates the second pair.
//
// The pair (a, b) becomes (a · cos − b · sin, b · cos + a · sin). Each value is written as a product and a fused
// multiply-add. Otherwise a driver might fuse these two operations in one kernel and not in another, and the variants
// of the matmul would not be bit-identical.

fn rotate(pair: vec2<f32>, angle: vec2<f32>) -> vec2<f32> {
    let crossed = vec2<f32>(-pair.y, pair.x) * angle.y;
    return fma(pair, vec2<f32>(angle.x), crossed);
}

fn rotate_first(v: vec4<f32>, angle: vec2<f32>) -> vec4<f32> {
    return vec4<f32>(rotate(v.xy, angle), v.zw);
}

fn rotate_second(v: vec4<f32>, angle: vec2<f32>) -> vec4<f32> {
    return vec4<f32>(v.xy, rotate(v.zw, angle));
}
