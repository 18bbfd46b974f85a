//! Activation functions, as `shaders/shared/activation.wgsl` computes them.

/// An activation function. The numbers are those of `shared/activation.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// y = x
    None = 0,
    /// GELU by the error function: torch's `GELU()`.
    Gelu = 1,
    /// GELU by the tanh approximation: torch's `GELU(approximate="tanh")`, `gelu_new`.
    GeluTanh = 2,
    /// max(x, 0)
    Relu = 3,
    /// x · sigmoid(x), also called swish.
    Silu = 4,
    /// Hyperbolic tangent.
    Tanh = 5,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid = 6,
}
