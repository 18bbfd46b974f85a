//! Values for JavaScript.

use js_sys::{
    Array, Float32Array, Int8Array, Object, Reflect, Uint8Array, Uint16Array, Uint32Array,
};
use serde::Serialize;
use vectile::{Embeddings, OutputPrecision, Quantized, quantize};
use wasm_bindgen::JsValue;

use crate::error;

/// A value as JSON. The types that this crate serializes have no maps with other keys than strings.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An object with these fields.
pub fn object<const N: usize>(fields: [(&str, JsValue); N]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Setting a field fails only on objects that are frozen, and this one was just made.
        let _ = Reflect::set(&object, &JsValue::from(name), &value);
    }
    object.into()
}

/// The counts of a call, as fields of its result.
pub struct Counts {
    pub truncated: Vec<usize>,
    pub retried: usize,
    pub halved: usize,
    pub tokens: usize,
}

/// Rows of `dim` values with the counts of their call.
pub fn rows(values: JsValue, dim: usize, counts: Counts) -> JsValue {
    let truncated: Vec<u32> = counts.truncated.iter().map(|text| *text as u32).collect();
    object([
        ("values", values),
        ("dimension", JsValue::from(dim as u32)),
        ("truncated", Uint32Array::from(&truncated[..]).into()),
        ("retried", JsValue::from(counts.retried as u32)),
        ("halved", JsValue::from(counts.halved as u32)),
        ("tokens", JsValue::from(counts.tokens as f64)),
    ])
}

/// Embeddings in an output precision, as a typed array. `float16` is given as the bits of its values.
pub fn embeddings(found: Embeddings, precision: OutputPrecision) -> Result<JsValue, JsValue> {
    let Embeddings { dim, values, truncated, retried, halved, tokens } = found;
    let values = match precision {
        OutputPrecision::Float32 => floats(&values),
        // An empty array has no ranges, and no width to divide it by.
        _ if values.is_empty() => Float32Array::new_with_length(0).into(),
        other => match quantize(&values, dim, other, None).map_err(error::of)? {
            Quantized::Float32(values) => floats(&values),
            Quantized::Float16(values) => {
                let bits: Vec<u16> = values.iter().map(|value| value.to_bits()).collect();
                Uint16Array::from(&bits[..]).into()
            }
            Quantized::Int8(values) => Int8Array::from(&values[..]).into(),
            Quantized::Uint8(values) => Uint8Array::from(&values[..]).into(),
        },
    };
    let counts = Counts { truncated, retried, halved, tokens };
    Ok(rows(values, precision.columns(dim), counts))
}

/// f32 values as a typed array.
pub fn floats(values: &[f32]) -> JsValue {
    Float32Array::from(values).into()
}

/// A list of objects.
pub fn list(values: impl IntoIterator<Item = JsValue>) -> JsValue {
    values.into_iter().collect::<Array>().into()
}

/// Rows that JavaScript passes back.
pub fn embeddings_of(values: Vec<f32>, dim: usize) -> Result<Embeddings, JsValue> {
    if dim == 0 || !values.len().is_multiple_of(dim) {
        let problem =
            format!("{} values cannot be divided into rows of {dim} values", values.len());
        return Err(error::option(&problem));
    }
    Ok(Embeddings { dim, values, ..Embeddings::default() })
}
