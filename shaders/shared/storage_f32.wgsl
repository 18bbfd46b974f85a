// storage_f32: a cell is four f32 values. This storage type is exact and runs on any adapter.
//
// Every storage file declares the same four names. An import replaces `role` in these names by `weight` or `act`.

alias role_vec4 = vec4<f32>;

// The largest finite value of this storage type.
const role_max: f32 = 3.4028234e38;

fn role_load(cell: role_vec4) -> vec4<f32> {
    return cell;
}

fn role_narrow(value: vec4<f32>) -> role_vec4 {
    return value;
}
