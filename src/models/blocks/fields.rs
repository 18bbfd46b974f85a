//! Config fields that many model families share, read with their limits and defaults.

use crate::config::{DenseActivation, JsonFile};
use crate::error::Error;
use crate::kernels::Activation;

/// Reads an activation by its name in transformers. If the config does not set the field, the activation is `default`.
///
/// # Errors
/// Returns [`Error::Unsupported`] for an unknown name, since a similar activation would give different vectors.
pub(crate) fn hidden_act(
    config: &JsonFile,
    field: &str,
    default: &str,
) -> Result<Activation, Error> {
    let name = config.str(field)?.unwrap_or(default);
    activation(name)
        .ok_or_else(|| Error::unsupported(&config.name, field, name, SUPPORTED_ACTIVATIONS))
}

/// The list of names that [`activation`] accepts, for error messages.
pub(crate) const SUPPORTED_ACTIVATIONS: &str = "supported: gelu, gelu_new, gelu_fast, \
    gelu_pytorch_tanh, relu, silu, swish, tanh, sigmoid and linear";

/// Returns the activation that has this name in transformers.
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

/// Returns the kernels' equivalent of the activation of a Dense module.
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

/// Reads the epsilon of a normalisation. The value must be at most 1, and at least the smallest positive normal f32.
pub(crate) fn epsilon(config: &JsonFile, field: &str, default: f64) -> Result<f32, Error> {
    let eps = config.f64(field)?.unwrap_or(default);
    if (f64::from(f32::MIN_POSITIVE)..=1.0).contains(&eps) {
        return Ok(eps as f32);
    }
    Err(Error::config(
        &config.name,
        field,
        format!("is {eps}; expected: a number between 1e-37 and 1"),
    ))
}

/// Reads a count, which must be from 1 to `maximum`.
pub(crate) fn count(config: &JsonFile, field: &str, maximum: usize) -> Result<usize, Error> {
    let value = config.required_size(field)?;
    if value > maximum {
        return Err(Error::config(
            &config.name,
            field,
            format!("is {value}; expected: at most {maximum}"),
        ));
    }
    Ok(value)
}

/// Like [`count`], but with a default for a missing field.
pub(crate) fn count_or(
    config: &JsonFile,
    field: &str,
    default: usize,
    maximum: usize,
) -> Result<usize, Error> {
    if config.has(field) { count(config, field, maximum) } else { Ok(default) }
}
