// coop_8: cooperative matrices of 8 × 8 values, f16 factors and f32 sums. Needs SHADER_F16 and the
// experimental feature of wgpu.
//
// Both coop files have these names; the host picks the one whose matrices the adapter has.
enable f16;
enable wgpu_cooperative_matrix;

const SIDE: u32 = 8u;

alias Half = f16;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
