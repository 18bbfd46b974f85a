// coop_8: declares cooperative matrices of 8 × 8 values, with f16 factors and f32 sums. These matrices need SHADER_F16
// and an experimental feature of wgpu.
//
// coop_8 and coop_16 declare the same names. The host imports the file that matches the size of the adapter's matrices.
enable f16;
enable wgpu_cooperative_matrix;

const SIDE: u32 = 8u;

alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
