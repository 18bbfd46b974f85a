// share_subgroup: the lanes of a subgroup load different rows and broadcast them, so that a row is loaded once for
// SHARE lanes. Lane r % SHARE holds row r in its register r / SHARE, and `from_lane<r>` reads row r. There is one
// function for each row, since WGSL requires the lane of a broadcast to be a constant expression.
enable subgroups;

// The number of lanes that share a load: a power of two of at most 16, and at most the subgroup size. The host rewrites
// this constant.
const SHARE: u32 = 8u;

struct Group {
    @builtin(workgroup_id) id: vec3<u32>,
}

struct Lane {
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) index: u32,
}

// Returns true in the first invocation of a dispatch.
fn is_first(group: Group, lane: Lane) -> bool {
    return lane.local == 0u && all(group.id == vec3<u32>(0u));
}

// Returns the index of the row that this lane loads, from 0 to SHARE − 1.
fn share_lane(lane: Lane) -> u32 {
    return lane.index % SHARE;
}

fn from_lane0(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 0u % SHARE);
}

fn from_lane1(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 1u % SHARE);
}

fn from_lane2(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 2u % SHARE);
}

fn from_lane3(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 3u % SHARE);
}

fn from_lane4(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 4u % SHARE);
}

fn from_lane5(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 5u % SHARE);
}

fn from_lane6(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 6u % SHARE);
}

fn from_lane7(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 7u % SHARE);
}

fn from_lane8(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 8u % SHARE);
}

fn from_lane9(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 9u % SHARE);
}

fn from_lane10(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 10u % SHARE);
}

fn from_lane11(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 11u % SHARE);
}

fn from_lane12(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 12u % SHARE);
}

fn from_lane13(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 13u % SHARE);
}

fn from_lane14(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 14u % SHARE);
}

fn from_lane15(value: vec4<f32>) -> vec4<f32> {
    return subgroupBroadcast(value, 15u % SHARE);
}
