// reduce_workgroup: sums over rows, where one workgroup of 64 invocations computes one row. A sum is computed as a tree
// in workgroup memory. This file replaces reduce_subgroup on adapters without subgroups.

struct Group {
    @builtin(workgroup_id) id: vec3<u32>,
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

// Returns true in the first invocation of a dispatch.
fn is_first(group: Group, lane: Lane) -> bool {
    return lane.index == 0u && all(group.id == vec3<u32>(0u));
}

var<workgroup> sums: array<f32, 64>;

// Returns the first row that this workgroup computes.
fn first_row(group: Group) -> u32 {
    return group.id.x;
}

fn row_step(group: Group, groups: u32) -> u32 {
    return groups;
}

// Returns the row that a lane computes. This is `first`, because all lanes of a workgroup compute the same row.
fn own_row(first: u32, lane: Lane) -> u32 {
    return first;
}

fn first_lane(lane: Lane) -> u32 {
    return lane.index;
}

fn lane_step(lane: Lane) -> u32 {
    return 64u;
}

// Returns the sum of `value` over the lanes of the workgroup. Every invocation must call this function, since it has
// barriers.
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
