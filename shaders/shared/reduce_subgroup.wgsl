// reduce_subgroup: sums over rows, where one subgroup computes one row, without barriers.
//
// The functions work with any subgroup size. A workgroup computes num_subgroups rows at a time, and strides over all
// rows of the dispatch. The host therefore chooses the number of workgroups without knowing the subgroup size.
//
// `Group` holds values that are equal in a whole workgroup, and `Lane` holds values that differ between lanes. The two
// structs are separate because a browser must prove that all lanes of a workgroup reach a subgroup operation together.
// In this proof, if one value of a struct differs between lanes, all values of the struct count as different.
enable subgroups;

struct Group {
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_subgroups) subgroups: u32,
}

struct Lane {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) index: u32,
    @builtin(subgroup_size) count: u32,
}

// Returns true in the first invocation of a dispatch.
fn is_first(group: Group, lane: Lane) -> bool {
    return lane.subgroup == 0u && lane.index == 0u && all(group.id == vec3<u32>(0u));
}

// Returns the first row that this workgroup computes.
fn first_row(group: Group) -> u32 {
    return group.id.x * group.subgroups;
}

fn row_step(group: Group, groups: u32) -> u32 {
    return groups * group.subgroups;
}

// Returns the row that a lane computes if the first row of its workgroup is `first`. The result may lie beyond the last
// row.
fn own_row(first: u32, lane: Lane) -> u32 {
    return first + lane.subgroup;
}

fn first_lane(lane: Lane) -> u32 {
    return lane.index;
}

// Returns the number of lanes that share a row. A workgroup has 64 invocations, so at most 64 lanes are active.
fn lane_step(lane: Lane) -> u32 {
    return min(lane.count, 64u);
}

// Returns the sum of `value` over the lanes of a row. Every invocation of the workgroup must call this function.
fn reduce_sum(lane: Lane, value: f32) -> f32 {
    return subgroupAdd(value);
}
