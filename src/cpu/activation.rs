//! Activation functions, as `shaders/shared/activation.wgsl` computes them.

use rten_simd::Isa;
use rten_simd::SimdUnaryOp;
use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_vecmath::Exp;

use super::vector::map;
use crate::kernels::Activation;

/// Returns the activation function that has this number in the shaders' override `ACTIVATION`.
pub(super) fn numbered(number: u32) -> Option<Activation> {
    use Activation::{Gelu, GeluTanh, None as Identity, Relu, Sigmoid, Silu, Tanh};
    let all = [Identity, Gelu, GeluTanh, Relu, Silu, Tanh, Sigmoid];
    all.into_iter().find(|activation| *activation as u32 == number)
}

/// Applies an activation function to each value.
#[inline(always)]
pub(super) fn activate<I: Isa>(isa: I, activation: Activation, y: &mut [f32]) {
    let ops = isa.f32();
    match activation {
        Activation::None => {}
        Activation::Gelu => map(
            isa,
            y,
            #[inline(always)]
            |x| {
                let erf = erf(isa, ops.mul(x, ops.splat(std::f32::consts::FRAC_1_SQRT_2)));
                ops.mul(ops.mul(x, ops.splat(0.5)), ops.add(erf, ops.one()))
            },
        ),
        Activation::GeluTanh => map(
            isa,
            y,
            #[inline(always)]
            |x| {
                let cube = ops.mul(ops.mul(x, x), x);
                let inner =
                    ops.mul(ops.mul_add(cube, ops.splat(0.044715), x), ops.splat(0.797_884_6));
                ops.mul(ops.mul(x, ops.splat(0.5)), ops.add(tanh(isa, inner), ops.one()))
            },
        ),
        // `max(x, 0)` would turn NaN into zero, which would hide an error.
        Activation::Relu => map(
            isa,
            y,
            #[inline(always)]
            |x| ops.select(ops.zero(), x, ops.le(x, ops.zero())),
        ),
        Activation::Silu => map(
            isa,
            y,
            #[inline(always)]
            |x| {
                // `sigmoid` clamps x to at least −80. For a much lower x, x · sigmoid(−80) would be far from zero, so
                // `select` returns zero.
                ops.select(ops.zero(), ops.mul(x, sigmoid(isa, x)), ops.le(x, ops.splat(-80.0)))
            },
        ),
        Activation::Tanh => map(
            isa,
            y,
            #[inline(always)]
            |x| tanh(isa, x),
        ),
        Activation::Sigmoid => map(
            isa,
            y,
            #[inline(always)]
            |x| sigmoid(isa, x),
        ),
    }
}

/// Computes erf(x) = x P(x²) / Q(x²) for x in [−3.925, 3.925], where P and Q are polynomials. Elsewhere, the result is
/// exactly ±1, since GELU multiplies the result by x, and with it any error. The coefficients are those of the shaders.
/// In f32, the error of erf is at most 3.4e-7, which is half the error of `rten_vecmath::Erf`.
#[inline(always)]
#[expect(
    clippy::approx_constant,
    reason = "this fitted coefficient is close to 2/√π, but must not be replaced by it"
)]
fn erf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    const P: [f32; 7] = [
        -1.336_076_8e-8,
        4.722_451e-6,
        3.805_441_4e-4,
        3.832_985_2e-3,
        5.428_260_6e-2,
        1.847_038_4e-1,
        1.128_379_2,
    ];
    const Q: [f32; 6] =
        [6.346_266e-5, 1.305_382_6e-3, 1.543_277_7e-2, 1.137_801_5e-1, 4.970_230_5e-1, 1.0];
    let ops = isa.f32();
    let (beyond, below) = (ops.ge(x, ops.splat(3.925)), ops.le(x, ops.splat(-3.925)));
    let x = ops.clamp(x, ops.splat(-3.925), ops.splat(3.925));
    let u = ops.mul(x, x);
    let mut p = ops.splat(P[0]);
    for factor in &P[1..] {
        p = ops.mul_add(p, u, ops.splat(*factor));
    }
    let mut q = ops.splat(Q[0]);
    for factor in &Q[1..] {
        q = ops.mul_add(q, u, ops.splat(*factor));
    }
    let within = ops.div(ops.mul(x, p), q);
    let erf = ops.select(ops.one(), within, beyond);
    ops.select(ops.splat(-1.0), erf, below)
}

#[inline(always)]
fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let clamped = ops.clamp(x, ops.splat(-80.0), ops.splat(80.0));
    let within = ops.div(ops.one(), ops.add(ops.one(), Exp::apply(isa, ops.neg(clamped))));
    keep_nan(isa, x, within)
}

/// Computes tanh(x) = 1 − 2 / (1 + e²ˣ). In f32, the result is ±1 if |x| is at least 9.02.
#[inline(always)]
fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let clamped = ops.clamp(x, ops.splat(-10.0), ops.splat(10.0));
    let grown = Exp::apply(isa, ops.add(clamped, clamped));
    keep_nan(isa, x, ops.sub(ops.one(), ops.div(ops.splat(2.0), ops.add(ops.one(), grown))))
}

/// Returns `y`, or NaN if `x` is NaN. Callers compute `y` from a clamped `x`, and clamping can turn a NaN into a
/// number.
#[inline(always)]
fn keep_nan<I: Isa>(isa: I, x: I::F32, y: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(y, x, ops.eq(x, x))
}

#[cfg(test)]
mod tests {
    use rten_simd::SimdOp;

    use super::*;
    use crate::kernels::reference;

    struct Apply<'a>(Activation, &'a mut [f32]);

    impl SimdOp for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) {
            activate(isa, self.0, self.1);
        }
    }

    #[test]
    fn every_activation_is_close_to_its_reference() {
        let inputs: Vec<f32> =
            (-4000..=4000).map(|i| i as f32 / 250.0).chain([-1e30, -200.0, 200.0, 1e4]).collect();
        for number in 0..7 {
            let activation = numbered(number).unwrap();
            let mut y = inputs.clone();
            Apply(activation, &mut y).dispatch();
            for (x, y) in inputs.iter().zip(&y) {
                let expected = reference::activate(activation, f64::from(*x));
                let error = (f64::from(*y) - expected).abs();
                // GELU multiplies the error of erf by x / 2. For large |x|, erf is exactly ±1 and has no error.
                let allowed = 4e-7 * expected.abs().max(f64::from(x.abs().min(6.0))).max(1.0);
                assert!(error <= allowed, "{activation:?}({x}) is {y}, expected {expected}");
            }
        }
        assert_eq!(numbered(7), None);
    }

    #[test]
    fn no_activation_hides_a_nan() {
        for number in 0..7 {
            let activation = numbered(number).unwrap();
            let mut y = vec![f32::NAN; 37];
            Apply(activation, &mut y).dispatch();
            assert!(y.iter().all(|y| y.is_nan()), "{activation:?}");
        }
    }
}
