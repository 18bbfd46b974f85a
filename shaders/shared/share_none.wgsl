// share_none: every lane loads every row itself. This file replaces share_subgroup on adapters without subgroups.

const SHARE: u32 = 1u;

struct Group {
    @builtin(workgroup_id) id: vec3<u32>,
}

struct Lane {
    @builtin(local_invocation_index) local: u32,
}

// Returns true in the first invocation of a dispatch.
fn is_first(group: Group, lane: Lane) -> bool {
    return lane.local == 0u && all(group.id == vec3<u32>(0u));
}

fn share_lane(lane: Lane) -> u32 {
    return 0u;
}

fn from_lane0(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane1(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane2(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane3(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane4(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane5(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane6(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane7(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane8(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane9(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane10(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane11(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane12(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane13(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane14(value: vec4<f32>) -> vec4<f32> {
    return value;
}

fn from_lane15(value: vec4<f32>) -> vec4<f32> {
    return value;
}
