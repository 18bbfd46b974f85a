// reduce_workgroup: sums over one row, with one workgroup of 64 for each row, by a tree in workgroup memory. It
// replaces reduce_subgroup on adapters without subgroups.

struct Group {
    @builtin(workgroup_id) id: vec3<u32>,
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

// True in the first invocation of a dispatch.
fn is_first(group: Group, lane: Lane) -> bool {
    return lane.index == 0u && all(group.id == vec3<u32>(0u));
}

var<workgroup> sums: array<f32, 64>;

// The first of the rows that a workgroup takes at a time.
fn first_row(group: Group) -> u32 {
    return group.id.x;
}

fn row_step(group: Group, groups: u32) -> u32 {
    return groups;
}

// The row of a lane, if its workgroup takes rows from `first` on.
fn own_row(first: u32, lane: Lane) -> u32 {
    return first;
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
