// storage_f32: four values a cell, as f32. Exact. Any adapter.
//
// Every storage file has these four names; the import gives `role` its name (weight, act).

alias role_vec4 = vec4<f32>;

// The largest finite value the format holds.
const role_max: f32 = 3.4028234e38;

fn role_load(cell: role_vec4) -> vec4<f32> {
    return cell;
}

fn role_narrow(value: vec4<f32>) -> role_vec4 {
    return value;
}
