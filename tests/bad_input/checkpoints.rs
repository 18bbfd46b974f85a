//! Checkpoints in other formats, or with settings that Vectile does not read, from public reports. Each is refused
//! with the reason and a remedy, or a note says what was not used.

use serde_json::{Value, json};

use crate::Kind::{Config, File, Tensor, Unsupported};
use crate::Model;
use crate::tensors::{FILE, QUERY, tensors};

const CONFIG: &str = "config.json";

/// The words that every message about quantized weights must have.
const QUANTIZED: [&str; 2] = ["quantized", "use the original model"];

#[track_caller]
fn refused_as_quantized(model: &Model, kind: crate::Kind, words: &[&str]) {
    model.refused(kind, &[words, &QUANTIZED[..]].concat());
}

#[test]
fn quantized_fixtures_name_their_method() {
    // llm-compressor (vllm-project/llm-compressor) writes such checkpoints.
    let int8 = Model::fixture("quantized/compressed_tensors_int8");
    let words = [CONFIG, "quantization_config.quant_method", "compressed-tensors"];
    refused_as_quantized(&int8, Unsupported, &words);
    // See ml-explore/mlx#2309 and lmstudio-ai/lmstudio-bug-tracker#2336.
    let mlx = Model::fixture("quantized/mlx_4bit");
    refused_as_quantized(&mlx, Unsupported, &[CONFIG, "`quantization`", "MLX", "4"]);
    // If the config does not name the method, the names of the tensors show it.
    let bare = int8.unset(CONFIG, "quantization_config");
    refused_as_quantized(&bare, Tensor, &[FILE, "weight_scale", "compressed-tensors"]);
    let bare = mlx.unset(CONFIG, "quantization").unset(CONFIG, "quantization_config");
    refused_as_quantized(&bare, Tensor, &[FILE, ".scales", "MLX"]);
}

#[test]
fn quantization_configs_of_published_methods_are_named() {
    for (config, method) in [
        // See huggingface/text-generation-inference#1056: "weight … q_proj does not exist".
        (json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}), "awq"),
        // See oobabooga/textgen#4798.
        (json!({"quant_method": "gptq", "bits": 4, "desc_act": false}), "gptq"),
        // See sgl-project/sglang#2556 and bitsandbytes-foundation/bitsandbytes#535.
        (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "bitsandbytes"),
        // See jundot/omlx#190.
        (json!({"quant_method": "fp8", "weight_block_size": [128, 128]}), "fp8"),
        // See EfficientMoE/MoE-Infinity#70.
        (json!({"quant_method": "hqq"}), "hqq"),
    ] {
        let model = Model::good().config("quantization_config", config);
        let words = [CONFIG, "quantization_config.quant_method", method];
        refused_as_quantized(&model, Unsupported, &words);
    }
    let unnamed = Model::good().config("quantization_config", json!({"load_in_4bit": true}));
    refused_as_quantized(&unnamed, Unsupported, &[CONFIG, "`quantization_config`", "load_in_4bit"]);
    Model::good().config("quantization_config", Value::Null).loads();
}

#[test]
fn quantized_tensors_without_a_config_are_named() {
    let stem = QUERY.strip_suffix(".weight").unwrap();
    for (added, dtype, method) in [
        // See bitsandbytes-foundation/bitsandbytes#535.
        ("SCB", "F32", "bitsandbytes 8-bit"),
        ("weight.quant_state.bitsandbytes__nf4", "U8", "bitsandbytes 4-bit"),
        ("weight.absmax", "F32", "bitsandbytes 4-bit"),
        // EfficientMoE/MoE-Infinity#82 lists the tensor names of GPTQ and AWQ.
        ("g_idx", "I32", "GPTQ"),
        ("qzeros", "I32", "GPTQ or AWQ"),
        // See jundot/omlx#190.
        ("weight_scale_inv", "F32", "fp8"),
    ] {
        let name = format!("{stem}.{added}");
        let size = if dtype == "U8" { 1 } else { 4 };
        let model = tensors(|t| t.add(&name, dtype, &[4], vec![0; 4 * size]));
        refused_as_quantized(&model, Tensor, &[FILE, &name, method]);
    }
    for dtype in ["I8", "U8", "F8_E4M3"] {
        let model = tensors(|t| {
            let entry = t.get(QUERY);
            entry.dtype = dtype.to_owned();
            entry.data.truncate(entry.data.len() / 4);
        });
        refused_as_quantized(&model, Tensor, &[FILE, QUERY, dtype]);
    }
}

#[test]
fn weights_in_another_format_are_named_with_a_remedy() {
    for (name, words) in [
        // sentence-transformers#2295 tries optimum/all-MiniLM-L6-v2, which has only ONNX files.
        ("onnx/model.onnx", &["onnx/model.onnx", "ONNX", "exported from"][..]),
        ("model_optimized.onnx", &["ONNX", "exported from"]),
        ("openvino/openvino_model.xml", &["OpenVINO", "exported from"]),
        // See spiceai/spiceai#12970, about repositories that have only pytorch_model.bin.
        ("pytorch_model.bin", &["pickle", "safe_serialization=True"]),
        ("pytorch_model.bin.index.json", &["pickle", "safe_serialization=True"]),
        ("tf_model.h5", &["TensorFlow", "from_tf=True"]),
        ("flax_model.msgpack", &["Flax", "from_flax=True"]),
        ("model-q8_0.gguf", &["GGUF", "converted from"]),
        // See mzbac/mlx-llm-server#1: "No safetensors found".
        ("weights.npz", &["MLX", "converted from"]),
        ("model.fp16.safetensors", &["another name", "rename"]),
    ] {
        let model = Model::good().without(FILE).file(name, "x");
        model.refused(File, &[&[FILE, "is missing"], words].concat());
    }
}

#[test]
fn a_directory_of_gguf_files_is_named() {
    let mut model = Model::good();
    model.files.clear();
    let model = model.file("nomic-embed-text-v1.5.Q4_K_M.gguf", "GGUF");
    model.refused(File, &[CONFIG, "is missing", "Q4_K_M.gguf", "llama.cpp", "converted from"]);
}

#[test]
fn unknown_fields_are_refused_unless_switched_off() {
    for (field, value) in [
        // These fields belong to other architectures. A plain BERT does not compute them.
        ("use_bidirectional_attention", json!("vision")),
        ("partial_rotary_factor", json!(0.5)),
        ("embedding_multiplier", json!(12.0)),
        ("residual_multiplier", json!(0.22)),
        ("attn_logit_softcapping", json!(50.0)),
        ("lora_adaptations", json!(["retrieval.query"])),
        ("is_decoder_only", json!(true)),
        ("new_option", json!({"a": 1})),
    ] {
        let model = Model::good().config(field, value);
        model.refused(Unsupported, &[CONFIG, field, "could change the vectors", "remove it"]);
    }
    for off in [json!(false), json!(0), json!(0.0), json!(""), json!([]), json!({}), Value::Null] {
        Model::good().config("new_option", off).loads();
    }
}

/// Published configs have fields that transformers' class for BERT does not have. Such fields must not prevent a
/// load.
#[test]
fn fields_of_published_configs_are_harmless() {
    Model::good()
        .config("_name_or_path", "/tmp/model")
        .config("directionality", "bidi")
        .config("gradient_checkpointing", true)
        .config("id2label", json!({"0": "LABEL_0"}))
        .config("output_past", true)
        .config("pooler_fc_size", 768)
        .config("sentence_transformers", json!({"version": "6.2.0"}))
        .config("task_specific_params", json!({"x": {"max_length": 3}}))
        .config("torch_dtype", "float32")
        .config("use_cache", true)
        .loads();
}

/// See sentence-transformers#3725 and #3513 (causal attention in EmbeddingGemma), ggml-org/llama.cpp#20746 (the field
/// `is_causal`), and huggingface/transformers#43810 (both fields in Llama and Qwen).
#[test]
fn contradictory_or_unknown_attention_is_refused() {
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        let model = Model::fixture(&format!("families/{family}"));
        let both =
            model.clone().config("is_causal", true).config("use_bidirectional_attention", true);
        both.refused(Config, &[CONFIG, "use_bidirectional_attention", "is_causal"]);
        // See huggingface/transformers#46077: Gemma 4 has the values "all" and "vision".
        let text = model.config("use_bidirectional_attention", "all");
        text.refused(Config, &[CONFIG, "use_bidirectional_attention", "all"]);
    }
}

#[test]
fn an_unused_projection_is_refused_by_name() {
    let voyage = Model::fixture("families/qwen3_voyage");
    voyage.loads();
    for model in [voyage.clone().unset(CONFIG, "num_labels"), voyage.config("num_labels", 48)] {
        model.refused(Tensor, &[FILE, "linear.weight", "projection", "Dense module"]);
    }
    let data = vec![0; 4 * 48 * 8];
    let bert = tensors(|t| t.add("linear.weight", "F32", &[8, 48], data));
    bert.refused(Tensor, &[FILE, "linear.weight", "projection", "Dense module"]);
}

#[test]
fn unused_tensors_are_noted_unless_they_are_known() {
    let added = |name: &str| tensors(|t| t.add(name, "F32", &[2], vec![0; 8]));
    for known in ["pooler.extra.weight", "cls.predictions.bias", "lm_head.bias", "layer.inv_freq"] {
        let notes = added(known).loads().notes().to_vec();
        assert!(notes.is_empty(), "{known}: {notes:?}");
    }
    let notes = added("encoder.layer.0.adapter.down.weight").loads().notes().to_vec();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("encoder.layer.0.adapter.down.weight"), "{notes:?}");
    assert!(notes[0].contains("not used"), "{notes:?}");
}
