#![allow(clippy::unwrap_used)]

mod bad;

use super::*;
use crate::similarity::SimilarityFunction;

type File = (&'static str, &'static str);

const POOLING: &str = r#"{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}"#;
const NORMALIZE: &str = r#"{"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}"#;

fn modules(rest: &str) -> String {
    let first = r#"{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}"#;
    let comma = if rest.is_empty() { "" } else { "," };
    format!("[{first}{comma}{rest}]")
}

/// Writes `changes` over the files of a small valid model, and reads the result. The contents `-` remove a file.
fn model(changes: &[File]) -> Result<ModelConfig, Error> {
    let listed = modules(NORMALIZE);
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("config.json", r#"{"hidden_size": 8, "max_position_embeddings": 512}"#),
        ("modules.json", listed.as_str()),
        ("1_Pooling/config.json", POOLING),
        ("sentence_bert_config.json", r#"{"max_seq_length": 256, "do_lower_case": false}"#),
    ]);
    all.extend(changes.iter().copied());
    let files = all.into_iter().filter(|(_, contents)| *contents != "-");
    ModelConfig::load(&ModelFiles::from_bytes(
        files.map(|(name, contents)| (name.to_string(), contents.as_bytes().to_vec())),
    )?)
}

#[test]
fn a_model_saved_before_version_6_is_read() {
    let config = model(&[]).unwrap();
    assert_eq!(config.max_seq_length, Some(256));
    assert_eq!(config.weights_prefix, "");
    let pooling = Pooling { modes: vec![PoolingMode::Mean], include_prompt: true, dimension: 8 };
    assert_eq!(config.modules, [Module::Pooling(pooling), Module::Normalize]);
    assert!(config.prompts["query"].is_empty() && config.notes.is_empty());
}

#[test]
fn a_model_saved_since_version_6_is_read() {
    let list = r#"[
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}]"#;
    let config = model(&[
        ("modules.json", list),
        ("1_Pooling/config.json", r#"{"embedding_dimension": 8, "pooling_mode": "cls", "include_prompt": false}"#),
        ("sentence_bert_config.json", r#"{"transformer_task": "feature-extraction", "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}, "module_output_name": "token_embeddings"}"#),
        ("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#),
        ("config_sentence_transformers.json", r#"{"model_type": "SentenceTransformer", "prompts": {"query": "q: ", "document": null}, "default_prompt_name": "query", "truncate_dim": 4, "similarity_fn_name": "dot"}"#),
    ])
    .unwrap();
    assert_eq!(config.max_seq_length, Some(512));
    let pooling = Pooling { modes: vec![PoolingMode::Cls], include_prompt: false, dimension: 8 };
    assert_eq!(config.modules, [Module::Pooling(pooling)]);
    assert_eq!(config.prompts["query"], "q: ");
    assert_eq!(config.prompts["document"], "");
    assert_eq!(config.default_prompt_name.as_deref(), Some("query"));
    assert_eq!((config.truncate_dim, config.similarity), (Some(4), Some(SimilarityFunction::Dot)));
}

#[test]
fn the_length_limit_is_that_of_sentence_transformers() {
    const TOKENIZER: &str = "tokenizer_config.json";
    const SETTINGS: &str = "sentence_bert_config.json";
    let table: [(&[File], Option<usize>); 8] = [
        // An explicit length may exceed the number of positions. The caller then uses the number of positions.
        (&[(SETTINGS, r#"{"max_seq_length": 1024}"#)], Some(1024)),
        (&[(SETTINGS, r#"{"max_seq_length": null}"#)], Some(512)),
        (&[(SETTINGS, "-"), (TOKENIZER, r#"{"model_max_length": 128}"#)], Some(128)),
        (&[(SETTINGS, "-"), (TOKENIZER, r#"{"model_max_length": 4096}"#)], Some(512)),
        (
            &[(SETTINGS, "-"), (TOKENIZER, r#"{"model_max_length": 1e30}"#), ("config.json", "{}")],
            None,
        ),
        (&[(SETTINGS, "-"), ("config.json", r#"{"max_position_embeddings": -1}"#)], None),
        (
            &[(SETTINGS, r#"{"max_seq_length": 9, "tokenizer_args": {"model_max_length": 7}}"#)],
            Some(7),
        ),
        (
            &[(SETTINGS, "{}"), ("sentence_roberta_config.json", r#"{"max_seq_length": 77}"#)],
            Some(77),
        ),
    ];
    for (changes, expected) in table {
        assert_eq!(model(changes).unwrap().max_seq_length, expected, "{changes:?}");
    }
}

#[test]
fn a_transformer_without_modules_gets_default_pooling() {
    let alone = [
        ("modules.json", "-"),
        ("config.json", r#"{"hidden_size": 8, "max_position_embeddings": 512}"#),
    ];
    let config = model(&alone).unwrap();
    assert!(config.notes[0].contains("mean pooling over all tokens and not normalised"));
    assert_eq!(config.max_seq_length, Some(512));
    assert_eq!(config.modules.len(), 1);
    let causal = ("config.json", r#"{"hidden_size": 8, "architectures": ["GPT2ForCausalLM"]}"#);
    let config = model(&[("modules.json", "-"), causal]).unwrap();
    assert!(
        matches!(&config.modules[0], Module::Pooling(pooling) if pooling.modes == [PoolingMode::LastToken])
    );
}

#[test]
fn unusual_but_valid_files_are_accepted() {
    let legal: [(&str, &[File]); 10] = [
        ("byte order mark", &[("config.json", "\u{feff}{\"hidden_size\": 8}")]),
        ("CRLF", &[("config.json", "{\r\n\"hidden_size\": 8\r\n}")]),
        (
            "duplicate key, the last counts",
            &[("config.json", r#"{"hidden_size": 1, "hidden_size": 8}"#)],
        ),
        ("null is absent", &[("config.json", r#"{"hidden_size": null, "auto_map": null}"#)]),
        ("no sentence_bert_config.json", &[("sentence_bert_config.json", "-")]),
        (
            "unknown similarity",
            &[("config_sentence_transformers.json", r#"{"similarity_fn_name": "maxsim"}"#)],
        ),
        (
            "arguments without effect",
            &[(
                "sentence_bert_config.json",
                r#"{"max_seq_length": 8, "model_args": {"trust_remote_code": true, "torch_dtype": "float16"}}"#,
            )],
        ),
        (
            "Normalize with its directory",
            &[("2_Normalize/config.json", r#"{"module_input_name": "sentence_embedding"}"#)],
        ),
        (
            "two modes",
            &[(
                "1_Pooling/config.json",
                r#"{"embedding_dimension": 8, "pooling_mode": ["max", "cls"]}"#,
            )],
        ),
        (
            "no mode on: mean",
            &[(
                "1_Pooling/config.json",
                r#"{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": false}"#,
            )],
        ),
    ];
    for (name, changes) in legal {
        model(changes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let out_of_order = modules(NORMALIZE).replace("\"idx\": 2", "\"idx\": 0");
    let files = [("config.json", "{}"), ("1_Pooling/config.json", POOLING)]
        .map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
    let files = files.into_iter().chain([("modules.json".into(), out_of_order.into_bytes())]);
    let config = ModelConfig::load(&ModelFiles::from_bytes(files).unwrap()).unwrap();
    assert!(config.notes[0].contains("idx"));
}

#[test]
fn modes_are_concatenated_in_sentence_transformers_order() {
    let all = r#"{"word_embedding_dimension": 8, "pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#;
    let config = model(&[("1_Pooling/config.json", all)]).unwrap();
    let Module::Pooling(pooling) = &config.modules[0] else { panic!("no pooling") };
    assert_eq!(pooling.modes, [PoolingMode::Cls, PoolingMode::Mean, PoolingMode::LastToken]);
    assert_eq!(pooling.output_dimension(), 24);
}

fn with_dense(dense: &str) -> Result<ModelConfig, Error> {
    let listed = modules(
        r#"{"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}"#,
    );
    let files = [
        ("config.json", "{}"),
        ("1_Pooling/config.json", POOLING),
        ("modules.json", &listed),
        ("2_Dense/config.json", dense),
    ];
    let files = files.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
    ModelConfig::load(&ModelFiles::from_bytes(files)?)
}

#[test]
fn dense_modules_are_read_and_checked() {
    for (class, activation) in [
        ("torch.nn.modules.activation.Tanh", DenseActivation::Tanh),
        ("torch.nn.modules.linear.Identity", DenseActivation::Identity),
        ("torch.nn.modules.activation.GELU", DenseActivation::Gelu),
        ("torch.nn.modules.activation.ReLU", DenseActivation::Relu),
        ("torch.nn.SiLU", DenseActivation::Silu),
    ] {
        let file = format!(
            r#"{{"in_features": 8, "out_features": 4, "bias": false, "activation_function": "{class}"}}"#
        );
        let config = with_dense(&file).unwrap();
        let expected = Module::Dense {
            path: "2_Dense".into(),
            in_features: 8,
            out_features: 4,
            bias: false,
            activation,
            residual: false,
        };
        assert_eq!(config.modules[1], expected);
    }
    let bad = [
        (r#"{"in_features": 9, "out_features": 4}"#, "is 9, but the module before it gives 8"),
        (r#"{"in_features": 8}"#, "out_features"),
        (r#"{"in_features": 8, "out_features": 0}"#, "out_features"),
        (r#"{"in_features": 8, "out_features": 4, "activation_function": "my.Act"}"#, "my.Act"),
        (
            r#"{"in_features": 8, "out_features": 4, "activation_function": "torch.nn.modules.activation.Mish"}"#,
            "Mish",
        ),
        (
            r#"{"in_features": 8, "out_features": 4, "activation_function": null}"#,
            "activation_function",
        ),
        (
            r#"{"in_features": 8, "out_features": 4, "module_input_name": "token_embeddings"}"#,
            "module_input_name",
        ),
        (r#"{"in_features": 8, "out_features": 4, "bias": 1}"#, "bias"),
    ];
    for (file, words) in bad {
        let message = with_dense(file).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains("2_Dense/config.json"), "{message}");
    }
}
