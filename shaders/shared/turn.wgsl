// turn: a pair of neighbouring values turned by an angle, given as (cos, sin): the first or the second of a cell.

fn turn_first(v: vec4<f32>, angle: vec2<f32>) -> vec4<f32> {
    return vec4<f32>(v.x * angle.x - v.y * angle.y, v.y * angle.x + v.x * angle.y, v.z, v.w);
}

fn turn_second(v: vec4<f32>, angle: vec2<f32>) -> vec4<f32> {
    return vec4<f32>(v.x, v.y, v.z * angle.x - v.w * angle.y, v.w * angle.x + v.z * angle.y);
}
