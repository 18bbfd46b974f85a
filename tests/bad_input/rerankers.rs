//! Tests wrong and unsupported files of rerankers.

use serde_json::json;
use vectile::Reranker;

use crate::Kind::{self, Tensor, Tokenizer, Unsupported};
use crate::{Model, refused_as};

const CONFIG: &str = "config.json";
const MODULES: &str = "modules.json";
const LOGITS: &str = "1_LogitScore/config.json";
const OPTIONS: &str = "config_sentence_transformers.json";

fn good(name: &str) -> Model {
    Model::fixture(&format!("rerankers/{name}"))
}

fn refused(model: Model, expected: Kind, words: &[&str]) {
    refused_as(Reranker::builder, model, expected, words);
}

#[test]
fn models_without_a_head() {
    refused(Model::good(), Unsupported, &[CONFIG, "architectures", "BertModel"]);
    refused(good("bert").unset(CONFIG, "architectures"), Unsupported, &[CONFIG, "architectures"]);
    // The config names a head that the weights do not have.
    let architectures = json!(["BertForSequenceClassification"]);
    refused(Model::good().config("architectures", architectures), Tensor, &["pooler.dense"]);
}

#[test]
fn heads_of_other_sizes() {
    let three = json!({"0": "a", "1": "b", "2": "c"});
    refused(good("bert").config("id2label", three), Tensor, &["classifier.weight", "[3, 32]"]);
    let labels = good("bert_labels").unset(CONFIG, "id2label");
    refused(labels, Tensor, &["classifier.weight", "[2, 32]"]);
    refused(good("bert").config("id2label", json!([])), Kind::Config, &[CONFIG, "id2label"]);
}

#[test]
fn unsupported_activations_are_refused() {
    for class in ["my_code.Activation", "torch.nn.modules.activation.Softmax", ""] {
        let model = good("bert").set(OPTIONS, "activation_fn", class);
        refused(model, Unsupported, &[OPTIONS, "activation_fn", class]);
        let old = "sbert_ce_default_activation_function";
        refused(good("bert_bare").config(old, class), Unsupported, &[CONFIG, old]);
        let nested = json!({"activation_fn": class});
        let model = good("bert_bare").config("sentence_transformers", nested);
        refused(model, Unsupported, &[CONFIG, "sentence_transformers.activation_fn"]);
    }
}

#[test]
fn code_of_its_own() {
    let map = json!({"AutoModelForSequenceClassification": "modeling.Head"});
    let words = [CONFIG, "auto_map.AutoModelForSequenceClassification", "modeling.Head"];
    refused(good("bert_bare").config("auto_map", map), Unsupported, &words);
}

#[test]
fn modules_beside_the_transformer() {
    let module = |kind: &str| {
        json!({"name": kind, "path": format!("1_{kind}"),
        "type": format!("sentence_transformers.cross_encoder.modules.{kind}")})
    };
    let with = |name: &str, kind: &str| {
        let module = module(kind);
        let more = |file: &mut serde_json::Value| file.as_array_mut().unwrap().push(module);
        good(name).edit(MODULES, more)
    };
    refused(with("bert", "Pooling"), Unsupported, &[MODULES, "[1].type", "Pooling"]);
    refused(with("qwen3", "Pooling"), Unsupported, &[MODULES, "[2].type", "Pooling"]);
    refused(with("bert", "LogitScore"), Kind::File, &[LOGITS, "missing"]);
    let settings = "sentence_bert_config.json";
    let model = good("bert").set(settings, "transformer_task", "text-generation");
    refused(model, Unsupported, &[settings, "transformer_task", "sequence-classification"]);
}

#[test]
fn answers_that_are_not_tokens() {
    let model = |field: &str, value: serde_json::Value| good("qwen3").set(LOGITS, field, value);
    refused(model("true_token_id", json!(99_999)), Tensor, &["embed_tokens.weight", "99999"]);
    refused(model("false_token_id", json!(512)), Tensor, &["512 rows", "token 512"]);
    refused(model("true_token_id", json!(-1)), Kind::Config, &[LOGITS, "true_token_id", "-1"]);
    refused(model("true_token_id", json!(null)), Kind::Config, &[LOGITS, "true_token_id"]);
    let words = [LOGITS, "module_input_name", "scores"];
    refused(model("module_input_name", json!("scores")), Unsupported, &words);
    // If a word is split into several tokens, it has no logit of its own.
    let renamed = |tokenizer: &mut serde_json::Value| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("yes").unwrap();
        vocab.insert("yess".to_owned(), id);
    };
    let model = good("qwen3_bare").edit("tokenizer.json", renamed);
    refused(model, Tokenizer, &["tokenizer.json", "no token `yes`", "LogitScore"]);
}

#[test]
fn language_models_of_other_kinds() {
    let settings = "sentence_bert_config.json";
    let words = [settings, "transformer_task", "LogitScore"];
    refused(good("qwen3").unset(settings, "transformer_task"), Kind::Config, &words);
    refused(good("qwen3").without(settings), Kind::Config, &words);
    let any = good("qwen3").set(settings, "transformer_task", "any-to-any");
    refused(any, Unsupported, &[settings, "transformer_task", "text-generation"]);
    let code = json!({"AutoModelForCausalLM": "modeling.Reranker"});
    let words = [CONFIG, "auto_map.AutoModelForCausalLM", "modeling.Reranker"];
    refused(good("qwen3_bare").config("auto_map", code), Unsupported, &words);
    let untied = good("qwen3").config("tie_word_embeddings", false);
    refused(untied, Tensor, &["lm_head.weight", "missing"]);
    let both_ways = good("qwen3_seq_cls").config("is_causal", false);
    refused(
        both_ways,
        Unsupported,
        &[CONFIG, "is_causal", "supports only the value true of this field"],
    );
    let gemma = Model::fixture("families/gemma3").config("architectures", json!(["GForCausalLM"]));
    let gemma =
        ["modules.json", "sentence_bert_config.json"].iter().fold(gemma, |m, f| m.without(f));
    refused(gemma, Tokenizer, &["no token `yes`"]);
}

#[test]
fn templates_that_write_no_pairs() {
    let jinja = "chat_template.jinja";
    let template = |source: &str| good("qwen3").file(jinja, source);
    refused(good("qwen3").without(jinja), Kind::File, &[jinja, "missing", "takes messages"]);
    refused(template("{% for m in %}"), Tokenizer, &[jinja, "line 1"]);
    refused(template("{{ messages[-1].content }}"), Tokenizer, &[jinja, "leaves out the query"]);
    let endless = "{% for i in range(9999) %}{% for i in range(9999) %}{% endfor %}{% endfor %}";
    refused(template(endless), Tokenizer, &[jinja, "fuel"]);
    refused(good("qwen3").file(jinja, [0xff, b'a']), Kind::File, &[jinja, "UTF-8"]);
    // This is a chat model, as transformers saves it.
    let talks = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    let model = good("qwen3_bare").set("tokenizer_config.json", "chat_template", talks);
    refused(model, Tokenizer, &["tokenizer_config.json", "leaves out the query"]);
    let named = json!([{"name": "tool_use", "template": talks}]);
    let model = good("qwen3_bare").set("tokenizer_config.json", "chat_template", named);
    refused(model, Unsupported, &["tokenizer_config.json", "chat_template", "default"]);
    let settings = "sentence_bert_config.json";
    let xml =
        |file: &mut serde_json::Value| file["modality_config"]["message"]["format"] = "xml".into();
    refused(good("qwen3").edit(settings, xml), Unsupported, &[settings, "message.format", "xml"]);
    let kwargs = json!({"chat_template": {"truncation": false}});
    let model = good("qwen3").set(settings, "processing_kwargs", kwargs);
    refused(model, Unsupported, &[settings, "processing_kwargs.chat_template.truncation"]);
    let model = good("qwen3").set("tokenizer_config.json", "model_max_length", 150);
    refused(model, Tokenizer, &["tokens of a chat template", "150 tokens"]);
}

#[test]
fn a_length_that_special_tokens_fill() {
    let model = good("bert").set("tokenizer_config.json", "model_max_length", 3);
    refused(model, Tokenizer, &["3 special tokens", "3 tokens"]);
}
