// elements_1: declares elements of workgroup memory that hold a whole cell of four values. Kernels with cooperative
// matrices import this file if loads and stores of matrices accept a pointer to a vector, as in Vulkan. An invocation
// then copies a cell with one instruction.
//
// elements_1 and elements_4 declare the same names.

// The number of elements in a cell.
const ELEMENTS: u32 = 1u;

alias HalfElement = vec4<f16>;
alias SumElement = vec4<f32>;

// Returns the only element of a cell. `at` is 0.
fn half_element(cell: vec4<f16>, at: u32) -> HalfElement {
    return cell;
}

// Returns the cell of sums that consists of these elements. All four arguments are the cell's only element.
fn sum_cell(a: SumElement, b: SumElement, c: SumElement, d: SumElement) -> vec4<f32> {
    return a;
}
