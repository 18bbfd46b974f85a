//! What architectures share: reading common config fields, and the embedding of tokens.

use crate::config::{DenseActivation, JsonFile};
use crate::error::Error;
use crate::kernels::Activation;

/// `hidden_act`, under the names that transformers knows; `default` where the config names none.
///
/// # Errors
/// [`Error::Unsupported`] for any other: a similar function would give other vectors.
pub(crate) fn hidden_act(
    config: &JsonFile,
    field: &str,
    default: &str,
) -> Result<Activation, Error> {
    let name = config.str(field)?.unwrap_or(default);
    activation(name)
        .ok_or_else(|| Error::unsupported(&config.name, field, name, SUPPORTED_ACTIVATIONS))
}

/// The names that [`activation`] knows, for messages.
pub(crate) const SUPPORTED_ACTIVATIONS: &str = "supported are gelu, gelu_new, gelu_fast, \
    gelu_pytorch_tanh, relu, silu, swish, tanh, sigmoid and linear";

/// The function of a name that transformers knows.
pub(crate) fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "linear" => Activation::None,
        _ => return None,
    })
}

/// The kernel's function for a Dense module's.
pub(crate) fn dense_activation(activation: DenseActivation) -> Activation {
    match activation {
        DenseActivation::Identity => Activation::None,
        DenseActivation::Tanh => Activation::Tanh,
        DenseActivation::Relu => Activation::Relu,
        DenseActivation::Gelu => Activation::Gelu,
        DenseActivation::Silu => Activation::Silu,
        DenseActivation::Sigmoid => Activation::Sigmoid,
    }
}

/// A normalisation's epsilon: above zero, and a number that f32 holds.
pub(crate) fn epsilon(config: &JsonFile, field: &str, default: f64) -> Result<f32, Error> {
    let eps = config.f64(field)?.unwrap_or(default);
    if (f64::from(f32::MIN_POSITIVE)..=1.0).contains(&eps) {
        return Ok(eps as f32);
    }
    Err(Error::config(&config.name, field, format!("is {eps}; between 1e-37 and 1 is expected")))
}

/// A count that a field gives, from 1 to `most`.
pub(crate) fn count(config: &JsonFile, field: &str, most: usize) -> Result<usize, Error> {
    let value = config.required_size(field)?;
    if value > most {
        return Err(Error::config(
            &config.name,
            field,
            format!("is {value}; at most {most} is expected"),
        ));
    }
    Ok(value)
}

/// As [`count`], and `default` where the config does not give it.
pub(crate) fn count_or(
    config: &JsonFile,
    field: &str,
    default: usize,
    most: usize,
) -> Result<usize, Error> {
    if config.has(field) { count(config, field, most) } else { Ok(default) }
}
