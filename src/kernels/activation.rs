//! Activation functions, as `shaders/shared/activation.wgsl` computes them.

/// An activation function. The discriminant of each variant is the function's number in `shared/activation.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The identity, y = x.
    None = 0,
    /// GELU computed with the error function: torch's `GELU()`.
    Gelu = 1,
    /// GELU computed with the tanh approximation: torch's `GELU(approximate="tanh")`, also called `gelu_new`.
    GeluTanh = 2,
    /// The rectifier, max(x, 0).
    Relu = 3,
    /// x · sigmoid(x), also called swish.
    Silu = 4,
    /// The hyperbolic tangent, tanh(x).
    Tanh = 5,
    /// The logistic function, 1 / (1 + e⁻ˣ).
    Sigmoid = 6,
}
