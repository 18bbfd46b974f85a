//! Models whose attention depends on the distance between tokens.

use serde_json::{Value, json};

use super::{WORDS, outcome_of, transformer, with};

/// Checks that each change is refused by a message with the file, the field and `expected`.
fn refused(config: &Value, tensors: &[(&str, usize)], changes: &[(Value, &str)]) {
    for (change, expected) in changes {
        let message = outcome_of(&with(config, change), tensors);
        let field = change.as_object().unwrap().keys().next().unwrap();
        for part in ["config.json", field, expected] {
            assert!(message.contains(part), "{change}: {message}");
        }
    }
}

#[test]
fn all_mpnet_base_v2() {
    let config = published!("sentence-transformers--all-mpnet-base-v2");
    let tensors = [(WORDS, 30527), ("embeddings.position_embeddings.weight", 514)];
    let facts = transformer(&config, &tensors).unwrap().facts();
    assert_eq!((facts.hidden, facts.table_rows), (768, 30527));
    assert_eq!((facts.positions, facts.type_rows), (Some(512), None));
    assert_eq!(
        outcome_of(&config, &tensors),
        "12 layers, hidden 768, 12 heads, intermediate 3072, 512 positions, 32 position buckets \
         up to a distance of 128 tokens, Gelu"
    );
    refused(
        &config,
        &tensors,
        &[
            (json!({"relative_attention_num_buckets": 64}), "supported: 32"),
            (json!({"hidden_act": "mish"}), "supported: gelu"),
            (json!({"num_attention_heads": 5}), "hidden_size"),
            (json!({"max_position_embeddings": 2}), "leaves no position"),
        ],
    );
}

#[test]
fn sentence_t5_gtr_and_instructor() {
    let base = published!("sentence-transformers--sentence-t5-base");
    let norm = ("encoder.final_layer_norm.weight", 1);
    for (config, words, expected) in [
        (base.clone(), "encoder.embed_tokens.weight", "12 layers, hidden 768, 12 heads of 64"),
        (
            published!("sentence-transformers--gtr-t5-large"),
            "shared.weight",
            "24 layers, hidden 1024, 16 heads of 64",
        ),
        (
            published!("hkunlp--instructor-base"),
            "shared.weight",
            "12 layers, hidden 768, 12 heads of 64",
        ),
    ] {
        let tensors = [(words, 32128), norm];
        let outcome = outcome_of(&config, &tensors);
        assert!(
            outcome.starts_with(expected) && outcome.ends_with("distance of 128 tokens, Relu"),
            "{outcome}"
        );
        let facts = transformer(&config, &tensors).unwrap().facts();
        assert_eq!((facts.table_rows, facts.positions, facts.type_rows), (32128, None, None));
        assert!(facts.f16.activations_unsafe);
    }
    let tensors = [("shared.weight", 32128), norm];
    refused(
        &base,
        &tensors,
        &[
            (json!({"feed_forward_proj": "gated-mish"}), "supported: gelu"),
            (json!({"feed_forward_proj": "deep-gated-gelu"}), "gated-"),
            (json!({"dense_act_fn": "mish"}), "supported: gelu"),
            (json!({"is_decoder": true}), "encoder"),
            (json!({"d_kv": 512}), "at most 256"),
            (json!({"relative_attention_num_buckets": 2}), "at least 4"),
            (json!({"relative_attention_max_distance": 8}), "at least 9"),
            (json!({"layer_norm_epsilon": 0}), "between"),
        ],
    );
    // In T5 v1.1, `gelu` means the tanh approximation.
    let gated = with(&base, &json!({"feed_forward_proj": "gated-gelu"}));
    assert!(outcome_of(&gated, &tensors).ends_with("gated GeluTanh"));
}

#[test]
fn deberta_v3_base_and_mxbai_rerank_base_v1() {
    let base = published!("microsoft--deberta-v3-base");
    let tensors = [
        ("deberta.embeddings.word_embeddings.weight", 128_100),
        ("deberta.encoder.rel_embeddings.weight", 512),
    ];
    for config in [&base, &published!("mixedbread-ai--mxbai-rerank-base-v1")] {
        assert_eq!(
            outcome_of(config, &tensors),
            "12 layers, hidden 768, 12 heads, intermediate 3072, keys and queries for 256 \
             position buckets in each direction, up to a distance of 512 tokens, Gelu"
        );
        let facts = transformer(config, &tensors).unwrap().facts();
        assert_eq!((facts.table_rows, facts.positions, facts.type_rows), (128_100, None, None));
    }
    refused(
        &base,
        &tensors,
        &[
            // The config of deberta-v2-xlarge has this field.
            (json!({"conv_kernel_size": 3}), "convolution"),
            (json!({"pos_att_type": "p2p|c2p"}), "supported: c2p and p2c"),
            (json!({"norm_rel_ebd": "batch_norm"}), "layer_norm"),
            (json!({"position_buckets": 128}), "256 rows"),
            (json!({"max_position_embeddings": 100}), "at least 130"),
            (json!({"attention_head_size": 32}), "is"),
        ],
    );
}
