//! Tests dtypes, shapes, names and values of the tensors in `model.safetensors`, and the dtype that `config.json`
//! states for them.

use vectile::{DtypeRequest, Reason, Storage, block_on};

use crate::Kind::{File, Tensor};
use crate::Model;
use crate::tensors::{Entry, FILE, NORM, QUERY, WORDS, container, header, raw, tensors};

#[test]
fn dtype_unknown() {
    header(|h| h[WORDS]["dtype"] = "F33".into()).refused(File, &[FILE, "F33"]);
}

#[test]
fn dtype_i8() {
    tensors(|t| {
        let query = t.get(QUERY);
        query.dtype = "I8".into();
        query.data.truncate(48 * 48);
    })
    .refused(Tensor, &[FILE, QUERY, "I8", "F32, F16, BF16 and F64"]);
}

#[test]
fn dtype_bool() {
    tensors(|t| {
        let bias = t.get(&format!("{NORM}.bias"));
        bias.dtype = "BOOL".into();
        bias.data.truncate(48);
    })
    .refused(Tensor, &[FILE, NORM, "BOOL"]);
}

#[test]
fn dtype_f8() {
    tensors(|t| {
        let words = t.get(WORDS);
        words.dtype = "F8_E4M3".into();
        words.data.truncate(512 * 48);
    })
    .refused(Tensor, &[FILE, WORDS, "F8_E4M3"]);
}

#[test]
fn dtype_f64_loads() {
    tensors(|t| {
        for entry in &mut t.0 {
            let values = entry.data.chunks_exact(4);
            let wide = values
                .flat_map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())).to_le_bytes());
            (entry.data, entry.dtype) = (wide.collect(), "F64".into());
        }
    })
    .loads();
}

#[test]
fn f64_beyond_f32() {
    tensors(|t| {
        let bias = t.get(&format!("{NORM}.bias"));
        bias.dtype = "F64".into();
        bias.data = [1e300f64; 48].into_iter().flat_map(f64::to_le_bytes).collect();
    })
    .refused(Tensor, &[FILE, NORM, "infinite"]);
}

#[test]
fn matrix_transposed() {
    let up = "encoder.layer.0.intermediate.dense.weight";
    tensors(|t| t.get(up).shape.reverse()).refused(Tensor, &[FILE, up, "[48, 96]", "[96, 48]"]);
}

#[test]
fn matrix_with_another_dimension() {
    tensors(|t| t.get(QUERY).shape.push(1)).refused(Tensor, &[FILE, QUERY, "[48, 48, 1]"]);
}

#[test]
fn positions_of_another_width() {
    let name = "embeddings.position_embeddings.weight";
    tensors(|t| t.get(name).shape = vec![260, 24]).refused(Tensor, &[FILE, name, "[260, 24]"]);
}

#[test]
fn tensor_missing() {
    for name in
        [WORDS, QUERY, "embeddings.position_embeddings.weight", "encoder.layer.1.output.dense.bias"]
    {
        tensors(|t| t.0.retain(|e| e.name != name)).refused(Tensor, &[FILE, name, "is missing"]);
    }
}

#[test]
fn no_tensors() {
    raw(container("{}", b"")).refused(Tensor, &[FILE, WORDS, "no tensors"]);
}

#[test]
fn tensors_that_are_not_needed_load() {
    let embedder = tensors(|t| {
        t.add("embeddings.position_ids", "I64", &[1, 130], vec![0; 1040]);
        t.add("cls.predictions.bias", "F32", &[512], vec![0xff; 2048]);
        t.add("", "U8", &[1], vec![0]);
        t.add("../../etc/passwd\0", "U8", &[1], vec![0]);
    })
    .loads();
    let tensors = block_on(embedder.inspect()).tensors;
    assert!(tensors.iter().any(|t| t.name == "cls.predictions.bias" && !t.used));
    assert!(!block_on(embedder.inspect()).to_string().contains('\0'));
}

fn prefixed(prefix: &str) -> Model {
    tensors(|t| t.0.iter_mut().for_each(|entry| entry.name.insert_str(0, prefix)))
}

#[test]
fn prefixes_load() {
    for prefix in ["bert.", "model.", "0.auto_model.", "module.0.auto_model."] {
        prefixed(prefix).loads();
    }
}

#[test]
fn prefix_without_a_dot() {
    prefixed("bert").refused(Tensor, &[FILE, WORDS, "missing"]);
}

#[test]
fn with_and_without_prefix() {
    tensors(|t| {
        let mut copies = t.0.clone();
        copies.iter_mut().for_each(|entry| entry.name.insert_str(0, "bert."));
        t.0.extend(copies);
    })
    .refused(Tensor, &[FILE, WORDS, "several times", "bert.", "keep only one"]);
}

#[test]
fn gamma_and_beta_load() {
    tensors(|t| {
        for entry in &mut t.0 {
            entry.name = entry.name.replace("LayerNorm.weight", "LayerNorm.gamma");
            entry.name = entry.name.replace("LayerNorm.bias", "LayerNorm.beta");
        }
    })
    .loads();
}

#[test]
fn gamma_beside_weight() {
    tensors(|t| {
        let weight = t.get(&format!("{NORM}.weight")).clone();
        t.add(&format!("{NORM}.gamma"), "F32", &[48], weight.data);
    })
    .refused(Tensor, &[FILE, NORM, "weight", "gamma", "keep only one"]);
}

/// Returns the valid model with one changed value in a tensor.
fn value(name: &str, at: usize, value: f32) -> Model {
    tensors(|t| t.get(name).data[4 * at..][..4].copy_from_slice(&value.to_le_bytes()))
}

#[test]
fn one_nan() {
    value(QUERY, 1234, f32::NAN).refused(Tensor, &[FILE, QUERY, "1 value", "not a number"]);
    value(WORDS, 512 * 48 - 1, f32::NAN).refused(Tensor, &[FILE, WORDS]);
    value(&format!("{NORM}.bias"), 0, f32::NAN).refused(Tensor, &[FILE, NORM]);
}

#[test]
fn one_infinity() {
    value(QUERY, 0, f32::INFINITY).refused(Tensor, &[FILE, QUERY, "infinite"]);
    value("encoder.layer.0.output.dense.bias", 47, f32::NEG_INFINITY)
        .refused(Tensor, &[FILE, "encoder.layer.0.output.dense.bias", "infinite"]);
}

#[test]
fn nan_in_a_tensor_that_is_not_needed_loads() {
    tensors(|t| t.add("pooler.dense.bias2", "F32", &[1], f32::NAN.to_le_bytes().into())).loads();
}

#[test]
fn value_beyond_f16() {
    let model = value(QUERY, 5, 1e5);
    model.loads();
    model
        .dtype(DtypeRequest::Float16)
        .refused(Tensor, &[FILE, QUERY, "100000", "65504", "bfloat16 or float32"]);
}

#[test]
fn value_beyond_bf16() {
    // The value is finite in f32 but rounds up to infinity in bf16. The load must notice this.
    let model = value(WORDS, 5, f32::MAX).dtype(DtypeRequest::Bfloat16);
    model.refused(Tensor, &[FILE, WORDS, "float32"]);
}

#[test]
fn bias_beyond_f16_loads_since_biases_are_f32() {
    value("encoder.layer.0.output.dense.bias", 1, 1e5).dtype(DtypeRequest::Float16).loads();
}

#[test]
fn subnormals_and_negative_zero_load() {
    value(QUERY, 0, -0.0).loads();
    value(QUERY, 0, f32::from_bits(1)).dtype(DtypeRequest::Float16).loads();
}

#[test]
fn all_zero_loads() {
    tensors(|t| t.0.iter_mut().for_each(|entry| entry.data.fill(0))).loads();
}

#[test]
fn mixed_dtypes_load_as_the_config_names() {
    let embedder = tensors(|t| {
        let query = t.get(QUERY);
        query.data = query.data.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
        query.dtype = "BF16".into();
    })
    .loads();
    assert_eq!(embedder.precision().weights, Storage::F32);
}

#[test]
fn tensors_at_odd_offsets_load() {
    tensors(|t| {
        let byte = Entry { name: "a".into(), dtype: "U8".into(), shape: vec![1], data: vec![0] };
        t.0.insert(0, byte);
    })
    .loads();
}

#[test]
fn dtype_and_torch_dtype_differ() {
    let embedder = Model::good().config("torch_dtype", "float16").loads();
    let precision = embedder.precision();
    assert_eq!(precision.weights, Storage::F32);
    assert!(precision.reasons.contains(&Reason::DtypeOverTorchDtype), "{precision}");
}

#[test]
fn dtype_unknown_counts_as_absent() {
    let embedder = Model::good().config("dtype", "int3").loads();
    assert_eq!(embedder.precision().weights, Storage::F32);
    assert!(embedder.precision().checkpoint.source.contains("first tensor"));
}

#[test]
fn dtype_float64_says_so() {
    let embedder = Model::good().config("dtype", "float64").loads();
    assert!(embedder.precision().reasons.contains(&Reason::Float64AsF32));
}

#[test]
fn dtype_a_number_counts_as_absent() {
    assert_eq!(Model::good().config("dtype", 16).loads().precision().weights, Storage::F32);
}
