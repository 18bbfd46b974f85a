// reduce_subgroup: sums over one row, with one subgroup for each row and without barriers.
//
// It works at any subgroup size. A workgroup takes num_subgroups rows at a time and strides over the remaining rows.
// The host therefore chooses the number of workgroups without knowing which size the driver uses.

struct Lane {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) index: u32,
    @builtin(subgroup_size) count: u32,
}

// True in the first invocation of a dispatch.
fn is_first(lane: Lane) -> bool {
    return lane.subgroup == 0u && lane.index == 0u && all(lane.group == vec3<u32>(0u));
}

fn first_row(lane: Lane) -> u32 {
    return lane.group.x * lane.subgroups + lane.subgroup;
}

fn row_step(lane: Lane, groups: u32) -> u32 {
    return groups * lane.subgroups;
}

fn first_lane(lane: Lane) -> u32 {
    return lane.index;
}

// The workgroup has 64 invocations, so a wider subgroup has only 64 active lanes.
fn lane_step(lane: Lane) -> u32 {
    return min(lane.count, 64u);
}

fn reduce_sum(lane: Lane, value: f32) -> f32 {
    return subgroupAdd(value);
}
