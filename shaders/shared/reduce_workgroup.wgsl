// reduce_workgroup: sums over one row, with one workgroup of 64 for each row, by a tree in workgroup memory. It
// replaces reduce_subgroup on adapters without subgroups.

struct Lane {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
}

// True in the first invocation of a dispatch.
fn is_first(lane: Lane) -> bool {
    return lane.index == 0u && all(lane.group == vec3<u32>(0u));
}

var<workgroup> sums: array<f32, 64>;

fn first_row(lane: Lane) -> u32 {
    return lane.group.x;
}

fn row_step(lane: Lane, groups: u32) -> u32 {
    return groups;
}

fn first_lane(lane: Lane) -> u32 {
    return lane.index;
}

fn lane_step(lane: Lane) -> u32 {
    return 64u;
}

// Every invocation of the workgroup must call this function, since it has barriers.
fn reduce_sum(lane: Lane, value: f32) -> f32 {
    sums[lane.index] = value;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride = stride >> 1u) {
        if lane.index < stride {
            sums[lane.index] += sums[lane.index + stride];
        }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}
