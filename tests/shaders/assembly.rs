//! Tests the counts of instructions in the assembly of AMD's and NVIDIA's GPUs.

#[path = "../../benches/compilers/assembly/mod.rs"]
mod counted;

use counted::{Mix, of_amd, of_nvidia};

/// A loop with a matrix instruction inside a loop without one, as RADV prints it.
const AMD: &str = "\
BB0:
\ts_mov_b32 s0, 0                                             ; be800080
BB1:
\tv_add_nc_u32_e32 v1, v2, v3                                 ; 4a020702
BB2:
\tds_load_b64 v[4:5], v1                                      ; d9d80000 04000001
\tv_fma_mix_f32 v1, v2, v3, v4                                ; cc200001
\ts_delay_alu instid0(VALU_DEP_1)                             ; bf870001
\tv_wmma_f32_16x16x16_f16 v[8:15], v[0:7], v[0:7], v[8:15]    ; cc404008 1c220100
\ts_wait_dscnt 0x0                                            ; bfc60000
\ts_cbranch_scc1 BB2                                          ; bfa2fffa
\tglobal_store_b32 v0, v1, s[0:1]                             ; dc6a0000 00000100
\ts_cbranch_vccnz BB1                                         ; bfa4fff8
\ts_endpgm                                                    ; bfb00000
";

/// A loop of two blocks, one of which its branch can skip, as NVK prints it.
const NVIDIA: &str = "\
block.u 0 L0 [] -> {
      r0      = mov 0x0                        // delay=1
} -> [1]
block.u 1 L1 [0, 2] -> {
      p0 null = isetp.lt.i32 pT r0 0x10        // delay=13
@!p0            bra pT L3                      // delay=5
} -> [2, 3]
block 2 L2 [1] -> {
      r4..6   = ld.shared.b64 [r0]             // delay=1 wr:0
      r8..12  = hmma.m16n8k16.f32 r4 r4 r8     // delay=2
      r1      = ld.global.b32 [r2]             // delay=1
                nop L4                         // delay=1
                bra pT L1                      // delay=5
} -> [1]
block 3 L3 [1] -> {
                exit                           // delay=5
} -> []
";

#[test]
fn the_loop_with_the_matrices_is_counted() {
    let counts = of_amd(AMD).unwrap();
    let expected =
        Mix { matrix: 1, fma: 1, workgroup_loads: 1, waits: 1, branches: 1, ..Mix::default() };
    assert_eq!(counts.main_loop, Some(expected));
    assert_eq!((counts.whole.issued(), counts.outside), (10, 5));
    assert_eq!(counts.whole.global, 1);

    let counts = of_nvidia(NVIDIA).unwrap();
    let expected =
        Mix { matrix: 1, workgroup_loads: 1, global: 1, vector: 1, branches: 2, ..Mix::default() };
    let mix = counts.main_loop.unwrap();
    assert_eq!(mix, expected);
    assert_eq!((mix.issued(), mix.issued_per_matrix()), (6, Some(6.0)));
    assert_eq!((counts.outside, mix.fma_share(), mix.fma_per_load()), (2, None, None));
}

#[test]
fn text_that_is_no_assembly_has_no_counts() {
    assert_eq!(of_amd("no assembly"), None);
    assert_eq!(of_nvidia(""), None);
}
