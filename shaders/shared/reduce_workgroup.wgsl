// reduce_workgroup: sums over one row, a workgroup of 64 to a row, by a tree in workgroup memory.
// The twin of reduce_subgroup for adapters without subgroups.

struct Lane {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> sums: array<f32, 64>;

fn first_row(place: Lane) -> u32 {
    return place.group.x;
}

fn row_step(place: Lane, groups: u32) -> u32 {
    return groups;
}

fn first_lane(place: Lane) -> u32 {
    return place.lane;
}

fn lane_step(place: Lane) -> u32 {
    return 64u;
}

// Must be called by the whole workgroup.
fn reduce_sum(place: Lane, value: f32) -> f32 {
    sums[place.lane] = value;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride = stride >> 1u) {
        if place.lane < stride {
            sums[place.lane] += sums[place.lane + stride];
        }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}
