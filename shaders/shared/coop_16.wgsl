// coop_16: declares cooperative matrices of 16 × 16 values, with f16 factors and f32 sums. These matrices need
// SHADER_F16 and an experimental feature of wgpu.
enable f16;
enable wgpu_cooperative_matrix;

const SIDE: u32 = 16u;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
