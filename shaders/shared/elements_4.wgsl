// elements_4: declares elements of workgroup memory that hold one value, so that a cell has four elements. Kernels with
// cooperative matrices import this file for Metal. There, loads and stores of matrices take a pointer to a scalar, and
// naga does not convert a pointer to a vector.
//
// elements_1 and elements_4 declare the same names.

// The number of elements in a cell.
const ELEMENTS: u32 = 4u;

alias HalfElement = f16;
alias SumElement = f32;

// Returns element `at` of a cell.
fn half_element(cell: vec4<f16>, at: u32) -> HalfElement {
    return cell[at];
}

// Returns the cell of sums that consists of these elements.
fn sum_cell(a: SumElement, b: SumElement, c: SumElement, d: SumElement) -> vec4<f32> {
    return vec4<f32>(a, b, c, d);
}
