//! The architectures: a file each, and [`TABLE`], which is all that names them. Models state facts
//! and make graphs; they decide no dtype and touch no GPU.

mod albert;
mod bert;
mod buckets;
mod deberta;
mod decoder;
mod disentangled;
mod distilbert;
mod electra;
mod embeddings;
mod encoder;
mod experts;
mod gemma;
mod gte;
mod heads;
mod jina;
mod jina_reranker;
pub(crate) mod layers;
mod llama;
mod modernbert;
mod mpnet;
mod nomic;
mod post_norm;
mod qwen;
mod roberta;
mod rotary;
mod static_embedding;
mod t5;

use std::fmt;

use serde_json::Value;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::{Activations, Builder};
use crate::weights::{Loader, WeightFiles};

pub(crate) use heads::{Head, Step, causal_lm, classifier, masked_lm, projection, token_weight};
pub(crate) use static_embedding::read as static_embedding;

/// An architecture: what `config.json` calls it, and how its config is read.
struct Architecture {
    model_type: &'static str,
    /// Python code that comes with checkpoints and that this architecture computes, as
    /// `config.json`'s `auto_map` names it: `owner/repository--module.Class`, or `module.Class`; and
    /// modules of sentence-transformers that come with them, as `modules.json` does.
    code: &'static [&'static str],
    read: Read,
}

type Read = fn(&JsonFile, &WeightFiles) -> Result<Box<dyn Transformer>, Error>;

/// Every architecture that Vectile computes. Of several lines of a `model_type` the first counts
/// that knows all code the config names.
const TABLE: &[Architecture] = &[
    Architecture { model_type: "albert", code: &[], read: albert::read },
    Architecture { model_type: "bert", code: &[], read: bert::read },
    Architecture { model_type: "bert", code: jina::V2, read: jina::read_v2 },
    Architecture { model_type: "bert", code: jina::V2_CODE, read: jina::read_v2_code },
    Architecture { model_type: "camembert", code: &[], read: roberta::read },
    Architecture { model_type: "deberta-v2", code: &[], read: deberta::read },
    Architecture { model_type: "distilbert", code: &[], read: distilbert::read },
    Architecture { model_type: "electra", code: &[], read: electra::read },
    Architecture {
        model_type: "eurobert",
        code: &["configuration_eurobert.EuroBertConfig", "modeling_eurobert.EuroBertModel"],
        read: llama::eurobert,
    },
    Architecture { model_type: "gemma3_text", code: &[], read: gemma::read },
    Architecture { model_type: "gte", code: gte::CODE, read: gte::read },
    Architecture { model_type: "jina_embeddings_v3", code: &[], read: jina::read_v3 },
    Architecture { model_type: "llama", code: &[], read: llama::llama },
    Architecture { model_type: "mistral", code: &[], read: llama::mistral },
    Architecture { model_type: "modernbert", code: &[], read: modernbert::read },
    Architecture { model_type: "mpnet", code: &[], read: mpnet::read },
    Architecture { model_type: "mt5", code: &[], read: t5::read },
    Architecture { model_type: "new", code: gte::CODE, read: gte::read },
    Architecture { model_type: "nomic_bert", code: nomic::CODE, read: nomic::read },
    Architecture { model_type: "qwen2", code: &[], read: qwen::qwen2 },
    Architecture {
        model_type: "qwen2",
        code: &["modeling_qwen.Qwen2Model"],
        read: qwen::qwen2_with_code,
    },
    Architecture { model_type: "qwen3", code: &[], read: qwen::qwen3 },
    Architecture { model_type: "roberta", code: &[], read: roberta::read },
    Architecture { model_type: "t5", code: &[], read: t5::read },
    Architecture { model_type: "umt5", code: &[], read: t5::read_umt5 },
    Architecture { model_type: "xlm-roberta", code: &[], read: roberta::read },
    Architecture { model_type: "xlm-roberta", code: jina::V3, read: jina::read_v3 },
    Architecture {
        model_type: "xlm-roberta",
        code: jina_reranker::CODE,
        read: jina_reranker::read,
    },
];

/// An architecture's sizes, as config and tensor shapes give them, without its weights.
pub(crate) trait Transformer: fmt::Debug + Send + Sync {
    /// What the rest of the program needs to know.
    fn facts(&self) -> Facts;

    /// Its sizes, in one line.
    fn describe(&self) -> String;

    /// Chooses the adapter that [`Transformer::load`] adds to the weights.
    ///
    /// # Errors
    /// [`Error::Option`] where the model has none for this task.
    fn set_task(&mut self, task: &str) -> Result<(), Error> {
        Err(no_tasks(task))
    }

    /// How many tokens before its own a query sees in every layer, where some layer does not see the whole
    /// text.
    fn reach(&self) -> Option<usize> {
        None
    }

    /// Loads its weights.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn Loaded>, Error>;
}

/// A transformer's weights on the GPU, and the sizes that its forward pass needs.
pub(crate) trait Loaded: fmt::Debug + Send + Sync {
    /// Puts the forward pass over a batch on a graph: hidden states `[tokens, hidden]`.
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations;
}

/// What the rest of the program needs to know of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Width of its hidden states.
    pub hidden: usize,
    /// Its widest activation, for the memory of a batch.
    pub widest: usize,
    /// Rows of its embedding table: every token id is below.
    pub table_rows: usize,
    /// Rows of its token type table, where it has one: every token type is below.
    pub type_rows: Option<usize>,
    /// The most tokens it has positions for.
    pub positions: Option<usize>,
    /// What is known of its range.
    pub f16: F16Facts,
}

fn no_tasks(task: &str) -> Error {
    Error::option(
        "lora_task",
        format!("is {task}, and the model has no adapters for tasks; leave it out"),
    )
}

/// Reads `config.json` and the shapes of tensors; `module` is the class in `modules.json` where it is
/// not sentence-transformers' own.
///
/// # Errors
/// [`Error::Unsupported`] for a `model_type` or custom code that is not in the table or an option
/// that is not computed; [`Error::Config`] for impossible sizes.
pub(crate) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
    module: Option<&str>,
) -> Result<Box<dyn Transformer>, Error> {
    (architecture(config, module)?.read)(config, weights)
}

fn architecture(config: &JsonFile, module: Option<&str>) -> Result<&'static Architecture, Error> {
    let supported = || {
        let mut names: Vec<&str> = TABLE.iter().map(|a| a.model_type).collect();
        names.dedup();
        format!("supported are {}", names.join(", "))
    };
    let Some(model_type) = config.str("model_type")? else {
        return Err(config.error("model_type", format!("is missing; {}", supported())));
    };
    let custom = custom_code(config)?;
    let lines = || TABLE.iter().filter(|a| a.model_type == model_type);
    if lines().next().is_none() {
        return Err(config.unsupported("model_type", supported()));
    }
    if let Some(class) = module
        && !lines().any(|line| line.code.contains(&class))
    {
        let supported = "this module is Python code that comes with the model, and Vectile runs none; use a model whose modules are sentence-transformers' own";
        return Err(Error::unsupported("modules.json", "[0].type", class, supported));
    }
    let knows = |line: &Architecture| {
        custom.iter().map(|(_, code)| *code).chain(module).all(|code| line.code.contains(&code))
    };
    lines().find(|line| knows(line)).ok_or_else(|| {
        let known: Vec<&str> = lines().flat_map(|line| line.code).copied().collect();
        let unknown = custom.iter().find(|(_, code)| !known.contains(code)).or(custom.first());
        let (class, code) = unknown.copied().unwrap_or_default();
        let mut supported = "the model is defined by Python code that comes with it, and Vectile \
                             runs none"
            .to_owned();
        if !known.is_empty() {
            supported += &format!("; it computes what {} does", known.join(", "));
        }
        Error::unsupported(&config.name, format!("auto_map.{class}"), code, supported)
    })
}

/// Every `model_type` that has an architecture.
#[cfg(test)]
pub(crate) fn model_types() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|architecture| architecture.model_type)
}

/// What `auto_map` names that bears on hidden states: every class and its code but those of heads
/// (`AutoModelForMaskedLM` and the like), which embeddings leave out.
fn custom_code(config: &JsonFile) -> Result<Vec<(&str, &str)>, Error> {
    let Some(Value::Object(map)) = config.raw("auto_map") else {
        return config.object("auto_map").map(|_| Vec::new());
    };
    map.iter()
        .filter(|(class, code)| !class.starts_with("AutoModelFor") && !code.is_null())
        .map(|(class, code)| match code.as_str() {
            Some(code) => Ok((class.as_str(), code)),
            None => {
                let field = format!("auto_map.{class}");
                Err(config.error(&field, format!("is {code}; the name of a class is expected")))
            }
        })
        .collect()
}

#[cfg(test)]
mod published;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> JsonFile {
        let Ok(Value::Object(map)) = serde_json::from_str(json) else { panic!("{json}") };
        JsonFile::new("config.json", map)
    }

    #[test]
    fn custom_code_is_refused_by_name() {
        let message = |json: &str| architecture(&config(json), None).err().map(|e| e.to_string());
        let of = |map: &str| format!(r#"{{"model_type": "bert", "auto_map": {map}}}"#);
        for harmless in ["null", "{}", r#"{"AutoModelForMaskedLM": "m.Heads", "AutoModel": null}"#]
        {
            assert_eq!(message(&of(harmless)), None, "{harmless}");
        }
        for (map, field, value) in [
            (r#"{"AutoModel": "m.Model"}"#, "auto_map.AutoModel", "m.Model"),
            (r#"{"AutoConfig": "a/b--c.Config"}"#, "auto_map.AutoConfig", "a/b--c.Config"),
            (r#"{"AutoModel": ["m.Model"]}"#, "auto_map.AutoModel", "m.Model"),
            (r#""m.Model""#, "auto_map", "m.Model"),
        ] {
            let message = message(&of(map)).unwrap();
            for part in ["config.json", field, value] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn a_module_that_comes_with_a_model_belongs_to_its_code() {
        let bert = config(r#"{"model_type": "bert"}"#);
        let error = architecture(&bert, Some("custom_st.Transformer")).err().unwrap().to_string();
        for part in ["modules.json", "[0].type", "custom_st.Transformer", "Python code"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_line_can_be_reached() {
        for (at, line) in TABLE.iter().enumerate() {
            let shadowed = TABLE[..at].iter().find(|earlier| {
                earlier.model_type == line.model_type
                    && line.code.iter().all(|code| earlier.code.contains(code))
            });
            assert!(shadowed.is_none(), "{} is listed twice", line.model_type);
        }
    }
}
