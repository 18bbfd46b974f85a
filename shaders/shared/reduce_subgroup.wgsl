// reduce_subgroup: sums over one row, a subgroup to a row, no barrier.
//
// Works at any subgroup size: a workgroup holds num_subgroups rows, and rows are strided over, so
// the number of workgroups the host dispatches need not know the size that the driver picked.

struct Lane {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
}

fn first_row(place: Lane) -> u32 {
    return place.group.x * place.subgroups + place.subgroup;
}

fn row_step(place: Lane, groups: u32) -> u32 {
    return groups * place.subgroups;
}

fn first_lane(place: Lane) -> u32 {
    return place.lane;
}

// A subgroup wider than the workgroup of 64 has no more lanes than that.
fn lane_step(place: Lane) -> u32 {
    return min(place.lanes, 64u);
}

fn reduce_sum(place: Lane, value: f32) -> f32 {
    return subgroupAdd(value);
}
