// activation: computes y = f(x), four values at a time. gelu and gelu_tanh are different functions, and neither
// replaces the other.
//
// ACTIVATION selects the function f when the pipeline is compiled: 0 none, 1 gelu (with erf), 2 gelu_tanh, 3 relu, 4
// silu, 5 tanh, 6 sigmoid. The enum Activation in kernels/activation.rs has the same numbers.
override ACTIVATION: u32 = 0u;

// Returns an approximation of erf(x) for each of four values x. On [−3.925, 3.925], the approximation is x P(x²) /
// Q(x²). Outside this interval, it is the value at the nearer end of the interval, which differs from ±1 by 1e-7. The
// polynomials P and Q come from a minimax fit. The error of the fit is 1.4e-9 in exact arithmetic, and at most 3.4e-7
// in f32, because each operation rounds.
fn erf4(value: vec4<f32>) -> vec4<f32> {
    let x = clamp(value, vec4<f32>(-3.925), vec4<f32>(3.925));
    let u = x * x;
    var p = vec4<f32>(-1.3360768e-8);
    p = fma(p, u, vec4<f32>(4.722451e-6));
    p = fma(p, u, vec4<f32>(3.8054414e-4));
    p = fma(p, u, vec4<f32>(3.8329852e-3));
    p = fma(p, u, vec4<f32>(5.4282606e-2));
    p = fma(p, u, vec4<f32>(1.8470384e-1));
    p = fma(p, u, vec4<f32>(1.1283792));
    var q = vec4<f32>(6.346266e-5);
    q = fma(q, u, vec4<f32>(1.3053826e-3));
    q = fma(q, u, vec4<f32>(1.5432777e-2));
    q = fma(q, u, vec4<f32>(1.1378015e-1));
    q = fma(q, u, vec4<f32>(4.9702305e-1));
    q = fma(q, u, vec4<f32>(1.0));
    return x * p / q;
}

// Returns tanh of four values. On some drivers, the built-in tanh is NaN for large arguments, so arguments are clamped
// to ±10. In f32, tanh(x) is ±1 if |x| is at least 9.02.
fn tanh4(value: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(value, vec4<f32>(-10.0), vec4<f32>(10.0)));
}

fn sigmoid4(value: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(-clamp(value, vec4<f32>(-80.0), vec4<f32>(80.0))));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: {
            return 0.5 * x * (1.0 + erf4(x * 0.70710678));
        }
        case 2u: {
            return 0.5 * x * (1.0 + tanh4(0.7978846 * (x + 0.044715 * x * x * x)));
        }
        case 3u: {
            return max(x, vec4<f32>(0.0));
        }
        case 4u: {
            return x * sigmoid4(x);
        }
        case 5u: {
            return tanh4(x);
        }
        case 6u: {
            return sigmoid4(x);
        }
        default: {
            return x;
        }
    }
}
