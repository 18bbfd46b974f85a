//! Reads the settings of a sparse encoder as sentence-transformers' `SparseEncoder` does.

use crate::config::modules::{MODULES, ModuleEntry, Routes, entries};
use crate::config::{
    FirstModule, JsonFile, KindConfig, ModelConfig, OPTIONS, default_prompts, pickled_head,
    transformer,
};
use crate::error::Error;
use crate::files::ModelFiles;

/// The settings of a sparse encoder, without its transformer.
#[derive(Clone, Debug)]
pub(crate) struct SparseConfig {
    pub weighting: Weighting,
    /// The table with a fixed weight for each token of a query. `None` if the transformer encodes queries too.
    pub queries: Option<StaticQueries>,
    /// The maximum number of weights in a vector. If a text has more weights, only its largest weights are used.
    pub max_active_dims: Option<usize>,
}

/// The settings of the module `SparseStaticEmbedding` for queries, as in the sparse encoders of OpenSearch (Geng et al.
/// 2024, <https://arxiv.org/abs/2411.04403>).
#[derive(Clone, Debug)]
pub(crate) struct StaticQueries {
    /// The directory prefix of the files with the table's tokenizer and weights.
    pub prefix: String,
    /// The maximum number of tokens of a query.
    pub max_seq_length: Option<usize>,
    /// True if texts that are neither queries nor documents are treated as queries.
    pub by_default: bool,
}

/// The method that computes the weights of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weighting {
    /// The weight of each vocabulary token is computed from its largest logit over all positions of the text (SPLADE,
    /// Formal et al. 2021, <https://arxiv.org/abs/2109.10086>).
    Splade {
        /// True if `activation_function` is `log1p_relu`. log(1 + x) is then applied twice.
        twice: bool,
    },
    /// `sparse_linear` computes a weight for each token of the text (bge-m3, Chen et al. 2024,
    /// <https://arxiv.org/abs/2402.03216>).
    Lexical,
}

/// The name of bge-m3's linear layer that computes one weight for each token of a text.
pub(crate) const SPARSE_LINEAR: &str = "sparse_linear";

const SUPPORTED: &str = "a sparse encoder must be a Transformer with a masked language model's \
                         head, followed by a SpladePooling. A Router may instead send documents to \
                         these two modules and queries to a SparseStaticEmbedding";

impl ModelConfig {
    /// Returns the settings of a sparse encoder.
    ///
    /// If `config_sentence_transformers.json` says that a `SparseEncoder` was saved, `modules.json` is read. Otherwise
    /// the model is read as bge-m3 if it has a `sparse_linear` file. As in sentence-transformers, any other model is
    /// read as a masked language model with SPLADE max pooling.
    pub fn load_sparse(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let options = JsonFile::load(files, OPTIONS)?;
        let saved = match &options {
            Some(options) if options.str("model_type")? == Some("SparseEncoder") => Some(options),
            _ => None,
        };
        let listed = match saved {
            Some(_) => entries(files, &mut notes)?,
            None => None,
        };
        let [weights, pickle] = ["safetensors", "pt"].map(|end| format!("{SPARSE_LINEAR}.{end}"));
        if saved.is_none() && (files.exists(&weights)? || files.exists(&pickle)?) {
            pickled_head(files, SPARSE_LINEAR)?;
            let weighting = Weighting::Lexical;
            let sparse = SparseConfig { weighting, queries: None, max_active_dims: None };
            return Self::beside_heads(files, KindConfig::Sparse(sparse));
        }
        let weighting = Weighting::Splade { twice: false };
        let mut sparse = SparseConfig { weighting, queries: None, max_active_dims: None };
        let mut prefix = String::new();
        let listed = match listed {
            Some(entries) => Some(routed(files, entries, &mut sparse)?),
            None => None,
        };
        if let Some(entries) = &listed {
            sparse.weighting = Weighting::Splade { twice: pooling(files, entries)? };
            if let Some(path) = entries.first().map(|first| &first.path).filter(|p| !p.is_empty()) {
                prefix = format!("{path}/");
            }
        } else {
            transformer::refuse_chat_template(files)?;
            notes.push(format!(
                "the model has no {MODULES} of a SparseEncoder, so Vectile uses SPLADE max \
                 pooling, the default of sentence-transformers"
            ));
        }
        let config = transformer::load(files, &prefix)?;
        let settings = match &listed {
            Some(_) => transformer::settings(files, &prefix, &transformer::TOKEN_LOGITS)?,
            None => None,
        };
        let mut model = ModelConfig {
            kind: KindConfig::Dense,
            input: FirstModule::Transformer,
            max_seq_length: transformer::max_seq_length(
                files,
                &prefix,
                &config,
                settings.as_ref(),
            )?,
            do_lower_case: transformer::do_lower_case(settings.as_ref())?,
            modules: Vec::new(),
            weights_prefix: prefix,
            transformer: config,
            module_code: listed.as_ref().and_then(|entries| entries.first()?.code.clone()),
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        };
        if let (Some(options), Some(_)) = (saved, &listed) {
            model.apply_prompts(options)?;
            model.apply_similarity(options)?;
            if options.has("max_active_dims") {
                sparse.max_active_dims = Some(options.required_size("max_active_dims")?);
            }
        }
        model.kind = KindConfig::Sparse(sparse);
        Ok(model)
    }
}

/// Returns the modules for documents: all entries, or the entries of a router's document route.
fn routed(
    files: &ModelFiles,
    mut entries: Vec<ModuleEntry>,
    sparse: &mut SparseConfig,
) -> Result<Vec<ModuleEntry>, Error> {
    if entries.first().is_none_or(|first| first.kind != "Router") {
        return Ok(entries);
    }
    if let Some(after) = entries.get(1) {
        return Err(Error::unsupported(MODULES, "[1].type", &after.kind, SUPPORTED));
    }
    let routes = Routes::load(files, &entries.remove(0))?;
    let mut sides = [Vec::new(), Vec::new()];
    for (name, route) in routes.routes {
        match name.as_str() {
            "query" => sides[0] = route,
            "document" => sides[1] = route,
            other => {
                let supported = "supported routes: query and document";
                return Err(Error::unsupported(&routes.file, "structure", other, supported));
            }
        }
    }
    let [queries, documents] = sides;
    let [table] = &queries[..] else {
        let problem = format!("has {} modules for queries; {SUPPORTED}", queries.len());
        return Err(Error::config(&routes.file, "structure.query", problem));
    };
    if table.kind != "SparseStaticEmbedding" {
        let field = "structure.query[0]";
        return Err(Error::unsupported(&routes.file, field, &table.kind, SUPPORTED));
    }
    if let Some(config) = JsonFile::load(files, &format!("{}/config.json", table.path))?
        && config.has("path")
    {
        return Err(config.unsupported(
            "path",
            "only weights in model.safetensors are supported; save the model with \
             `save_pretrained`",
        ));
    }
    let prefix = format!("{}/", table.path);
    let nothing = JsonFile::new(MODULES, serde_json::Map::new());
    sparse.queries = Some(StaticQueries {
        max_seq_length: transformer::max_seq_length(files, &prefix, &nothing, None)?,
        prefix,
        by_default: routes.default.as_deref() == Some("query"),
    });
    Ok(documents)
}

/// Checks the modules of a sparse encoder. Returns true if the pooling applies log(1 + x) twice.
fn pooling(files: &ModelFiles, entries: &[ModuleEntry]) -> Result<bool, Error> {
    let kinds: [&[&str]; 2] = [&["Transformer", "MLMTransformer"], &["SpladePooling"]];
    for (at, entry) in entries.iter().enumerate() {
        if !kinds.get(at).is_some_and(|kinds| kinds.contains(&entry.kind.as_str())) {
            let field = format!("[{at}].type");
            return Err(Error::unsupported(MODULES, field, &entry.kind, SUPPORTED));
        }
    }
    let Some(entry) = entries.get(1) else {
        return Err(Error::config(MODULES, "type", format!("has no SpladePooling; {SUPPORTED}")));
    };
    let file = entry.required(files)?;
    if file.str("pooling_strategy")?.is_some_and(|strategy| strategy != "max") {
        return Err(file.unsupported("pooling_strategy", "supported: max"));
    }
    match file.str("activation_function")?.unwrap_or("relu") {
        "relu" => Ok(false),
        "log1p_relu" => Ok(true),
        _ => Err(file.unsupported("activation_function", "supported: relu and log1p_relu")),
    }
}
