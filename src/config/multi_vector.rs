//! Reads the settings of a multi-vector encoder.
//!
//! Models that were saved by sentence-transformers (`MultiVectorEncoder`), PyLate or Stanford's ColBERT are read as
//! sentence-transformers reads them. bge-m3 is read as FlagEmbedding reads it.

use crate::config::modules::{MODULES, ModuleEntry, entries, of_tokens};
use crate::config::{
    FirstModule, JsonFile, KindConfig, ModelConfig, Module, OPTIONS, default_prompts, pickled_head,
    transformer,
};
use crate::error::Error;
use crate::files::ModelFiles;

/// The settings of a multi-vector encoder, without its transformer and modules. ColBERT introduced such encoders
/// (Khattab and Zaharia 2020, <https://arxiv.org/abs/2004.12832>).
#[derive(Clone, Debug, Default)]
pub(crate) struct MultiVectorConfig {
    /// The maximum number of tokens of a query, and the name of the field that sets it.
    pub query_length: Option<(usize, String)>,
    /// The maximum number of tokens of a document, and the name of the field that sets it.
    pub document_length: Option<(usize, String)>,
    pub expansion: Option<Expansion>,
    /// The tokens whose vectors are left out of the result.
    pub skiplist: Vec<String>,
    pub skips_in_queries: bool,
    pub skips_in_documents: bool,
    /// The prefixes that are put before texts. If the vocabulary has a prefix as a token, the prefix is tokenized as
    /// this single token.
    pub prefixes: Vec<String>,
    /// True if a score is divided by the number of query tokens.
    pub mean: bool,
    /// The projection to token vectors, if it is stored with the transformer's checkpoint and not in a module.
    pub projection: Option<ProjectionKind>,
}

/// Query expansion: the tokens that are appended to a query with fewer than `length` tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expansion {
    /// The number of tokens to which a shorter query is extended.
    pub length: usize,
    /// The name of the file and the name of the field that set the length.
    pub field: (String, String),
    /// True if the query's own tokens attend to the appended tokens.
    pub seen: bool,
    /// The text of the token to append. `None` means the mask token, or the end-of-sequence token if there is no mask
    /// token.
    pub token: Option<String>,
}

/// A linear layer that is stored with a transformer's checkpoint and that projects hidden states to token vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProjectionKind {
    /// Stanford's ColBERT stores the layer as `linear.weight`.
    Stanford,
    /// bge-m3 stores the layer as `colbert_linear`. The layer is not applied to the first token.
    BgeM3,
}

/// The name of bge-m3's projection to token vectors, a linear layer with a bias.
pub(crate) const COLBERT_LINEAR: &str = "colbert_linear";

const SUPPORTED: &str = "supported multi-vector encoders are those saved by sentence-transformers \
    (MultiVectorEncoder), PyLate (ColBERT) or Stanford's ColBERT (HF_ColBERT), and bge-m3";

/// The fields that PyLate adds to `config_sentence_transformers.json`. If the file has any of these fields, PyLate
/// saved it.
const PYLATE: [&str; 9] = [
    "query_length",
    "document_length",
    "query_expansion",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "attend_to_mask_tokens",
    "query_prefix",
    "document_prefix",
    "skiplist_words",
];

/// The characters of Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The maximum number of query tokens in ColBERT models whose files do not set it.
const QUERY_TOKENS: usize = 32;

impl ModelConfig {
    /// Returns the settings of a multi-vector encoder.
    pub fn load_multi_vector(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let options = JsonFile::load(files, OPTIONS)?;
        let options = options.unwrap_or_else(|| JsonFile::new(OPTIONS, serde_json::Map::new()));
        let kind = options.str("model_type")?;
        let marked = has_pylate_field(&options);
        if kind.is_none() && !marked && has_bge_m3_head(files)? {
            return Self::load_bge_m3(files);
        }
        let listed = entries(files, &mut notes)?;
        let stanford = kind.is_none() && is_stanford(files)?;
        let saved = match kind {
            Some("MultiVectorEncoder") => Saved::Native,
            Some("ColBERT") => Saved::Pylate,
            None if stanford => Saved::Native,
            None if marked => Saved::OldPylate,
            None => {
                return Err(transformer::load(files, "")?.unsupported("architectures", SUPPORTED));
            }
            Some(_) => return Err(options.unsupported("model_type", SUPPORTED)),
        };
        match listed {
            Some(entries) => Self::load_saved(files, saved, &entries, &options, notes),
            None if stanford => Self::load_stanford(files),
            None => {
                let problem = format!(
                    "is missing, but {OPTIONS} describes a model with modules; download the model again"
                );
                Err(Error::file(MODULES, problem))
            }
        }
    }

    fn load_saved(
        files: &ModelFiles,
        saved: Saved,
        entries: &[ModuleEntry],
        options: &JsonFile,
        mut notes: Vec<String>,
    ) -> Result<Self, Error> {
        let Some((first, rest)) = entries.split_first() else {
            return Err(Error::file(MODULES, "lists no modules; download the model again"));
        };
        if first.kind != "Transformer" {
            let supported = "the first module must be a Transformer";
            return Err(Error::unsupported(MODULES, "[0].type", &first.kind, supported));
        }
        let prefix = match first.path.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let config = transformer::load(files, &prefix)?;
        let settings = transformer::settings(files, &prefix, &transformer::TOKEN_VECTORS)?;
        let (mut modules, mask) = of_tokens(files, rest, saved == Saved::OldPylate, &mut notes)?;
        let mut multi = MultiVectorConfig::default();
        pylate_fields(options, &mut multi)?;
        if let Some(settings) = &settings {
            own_fields(settings, &mut multi)?;
        }
        let prefixed = PREFIXES.iter().any(|(field, _)| options.map.contains_key(*field));
        match (saved, mask) {
            (Saved::Native, Some(mask)) => mask_fields(&mask, &mut multi)?,
            (Saved::Native, None) => {
                // Without a mask module, tokens are appended only if the query's own tokens attend to the appended
                // tokens.
                multi.expansion = multi.expansion.filter(|expansion| expansion.seen);
            }
            (Saved::Pylate | Saved::OldPylate, _) => {
                if !modules.iter().any(|module| matches!(module, Module::Dense { .. })) {
                    let problem = "has no Dense module, so nothing computes the token vectors; train the \
                                   model with one";
                    return Err(Error::config(MODULES, "type", problem));
                }
                let words = options.strings("skiplist_words")?;
                let default = saved == Saved::Pylate || prefixed;
                multi.skiplist = match words {
                    Some(words) => words.into_iter().map(str::to_owned).collect(),
                    None if default => punctuation(),
                    None => Vec::new(),
                };
                multi.skips_in_documents = true;
                modules.push(Module::Normalize);
            }
        }
        multi.mean = options.str("similarity_fn_name")? == Some("meanmaxsim");
        let mut model = ModelConfig {
            max_seq_length: transformer::max_seq_length(
                files,
                &prefix,
                &config,
                settings.as_ref(),
            )?,
            do_lower_case: transformer::do_lower_case(settings.as_ref())?,
            modules,
            weights_prefix: prefix,
            module_code: first.code.clone(),
            notes,
            ..Self::of_token_vectors(config, MultiVectorConfig::default())
        };
        model.apply_prompts(options)?;
        for (field, name) in PREFIXES {
            let Some(text) = options.str(field)? else { continue };
            multi.prefixes.push(text.to_owned());
            let prompt = model.prompts.entry(name.to_owned()).or_default();
            let rest = prompt.strip_prefix(text).unwrap_or(prompt.as_str());
            *prompt = format!("{text}{rest}");
        }
        model.kind = KindConfig::MultiVector(multi);
        Ok(model)
    }

    /// Returns the settings of a model that Stanford's ColBERT saved. The projection is stored with the transformer's
    /// weights, and `artifact.metadata` holds the settings.
    fn load_stanford(files: &ModelFiles) -> Result<Self, Error> {
        let config = transformer::load(files, "")?;
        transformer::refuse_chat_template(files)?;
        let mut notes = Vec::new();
        let name = "artifact.metadata";
        let metadata = JsonFile::load(files, name)?.unwrap_or_else(|| {
            notes.push(format!(
                "there is no {name}, so ColBERT's defaults are used, as in sentence-transformers"
            ));
            JsonFile::new(name, serde_json::Map::new())
        });
        let length = |field: &str| match metadata.usize(field)? {
            None | Some(0) => Ok::<_, Error>(None),
            Some(length) => Ok(Some((length, format!("{name}: field `{field}`")))),
        };
        let field = "query_maxlen";
        let expansion = Expansion {
            length: length(field)?.map_or(QUERY_TOKENS, |(length, _)| length),
            field: (name.to_owned(), field.to_owned()),
            seen: metadata.bool("attend_to_mask_tokens")?.unwrap_or(false),
            token: None,
        };
        let mut multi = MultiVectorConfig {
            document_length: length("doc_maxlen")?,
            expansion: Some(expansion),
            skips_in_documents: true,
            projection: Some(ProjectionKind::Stanford),
            ..MultiVectorConfig::default()
        };
        multi.query_length = fixed(&multi.expansion);
        if metadata.bool("mask_punctuation")?.unwrap_or(true) {
            multi.skiplist = punctuation();
        }
        let marker = |field: &str, default: &str| -> Result<String, Error> {
            let marker = metadata.str(field)?.filter(|marker| !marker.is_empty());
            Ok(format!("{} ", marker.unwrap_or(default)))
        };
        multi.prefixes =
            vec![marker("query_token_id", "[unused0]")?, marker("doc_token_id", "[unused1]")?];
        let sides = ["query", "document"].map(str::to_owned);
        let prompts = sides.into_iter().zip(multi.prefixes.clone()).collect();
        Ok(ModelConfig {
            max_seq_length: transformer::max_seq_length(files, "", &config, None)?,
            modules: vec![Module::Normalize],
            prompts,
            notes,
            ..Self::of_token_vectors(config, multi)
        })
    }

    /// Returns the settings of bge-m3, whose `colbert_linear` projects every token except the first.
    fn load_bge_m3(files: &ModelFiles) -> Result<Self, Error> {
        pickled_head(files, COLBERT_LINEAR)?;
        let multi = MultiVectorConfig {
            mean: true,
            projection: Some(ProjectionKind::BgeM3),
            ..MultiVectorConfig::default()
        };
        let model = Self::beside_heads(files, KindConfig::MultiVector(multi))?;
        Ok(ModelConfig { modules: vec![Module::Normalize], ..model })
    }

    /// Returns the settings of a model whose heads are in separate files beside its weights. The settings come from
    /// `config.json` and `sentence_bert_config.json`.
    pub(super) fn beside_heads(files: &ModelFiles, kind: KindConfig) -> Result<Self, Error> {
        let config = transformer::load(files, "")?;
        let settings = transformer::settings(files, "", &transformer::TOKEN_EMBEDDINGS)?;
        Ok(ModelConfig {
            kind,
            max_seq_length: transformer::max_seq_length(files, "", &config, settings.as_ref())?,
            do_lower_case: transformer::do_lower_case(settings.as_ref())?,
            ..Self::of_token_vectors(config, MultiVectorConfig::default())
        })
    }

    fn of_token_vectors(transformer: JsonFile, multi: MultiVectorConfig) -> Self {
        ModelConfig {
            kind: KindConfig::MultiVector(multi),
            input: FirstModule::Transformer,
            transformer,
            module_code: None,
            weights_prefix: String::new(),
            max_seq_length: None,
            do_lower_case: false,
            modules: Vec::new(),
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes: Vec::new(),
        }
    }
}

/// The library that saved the model's modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    /// sentence-transformers saved the modules, so `modules.json` lists every module.
    Native,
    /// PyLate saved the modules, so `modules.json` lists neither the module that leaves out tokens nor the
    /// normalisation.
    Pylate,
    /// An early version of PyLate, which did not write the field `model_type`, saved the modules.
    OldPylate,
}

const PREFIXES: [(&str, &str); 2] = [("query_prefix", "query"), ("document_prefix", "document")];

fn has_bge_m3_head(files: &ModelFiles) -> Result<bool, Error> {
    let [weights, pickle] = ["safetensors", "pt"].map(|end| format!("{COLBERT_LINEAR}.{end}"));
    Ok(files.exists(&weights)? || files.exists(&pickle)?)
}

pub(super) fn is_stanford(files: &ModelFiles) -> Result<bool, Error> {
    let Some(config) = JsonFile::load(files, "config.json")? else { return Ok(false) };
    Ok(config.strings("architectures")?.unwrap_or_default().contains(&"HF_ColBERT"))
}

fn punctuation() -> Vec<String> {
    PUNCTUATION.chars().map(String::from).collect()
}

/// Returns true if the file has one of the fields that PyLate writes.
fn has_pylate_field(options: &JsonFile) -> bool {
    PYLATE.iter().any(|field| options.map.contains_key(*field))
}

/// Returns true if `config_sentence_transformers.json` describes a multi-vector encoder.
pub(super) fn saved_so(options: &JsonFile) -> Result<bool, Error> {
    Ok(match options.str("model_type")? {
        Some(class) => ["MultiVectorEncoder", "ColBERT"].contains(&class),
        None => has_pylate_field(options),
    })
}

/// Returns the length to which an expansion extends queries, and a description of the field that sets it. Longer
/// queries are truncated to this length.
fn fixed(expansion: &Option<Expansion>) -> Option<(usize, String)> {
    let expansion = expansion.as_ref()?;
    let (file, field) = &expansion.field;
    Some((expansion.length, format!("{file}: field `{field}`")))
}

fn length(file: &JsonFile, field: &str) -> Result<Option<(usize, String)>, Error> {
    if !file.has(field) {
        return Ok(None);
    }
    Ok(Some((file.required_size(field)?, format!("{}: field `{field}`", file.name))))
}

/// Reads the fields that PyLate adds to `config_sentence_transformers.json`. Queries are expanded, unless a field
/// disables the expansion.
fn pylate_fields(options: &JsonFile, multi: &mut MultiVectorConfig) -> Result<(), Error> {
    if !has_pylate_field(options) {
        return Ok(());
    }
    multi.query_length = length(options, "query_length")?;
    multi.document_length = length(options, "document_length")?;
    if options.map.contains_key("query_expansion") {
        return own_expansion(options, multi);
    }
    if options.bool("do_query_expansion")? == Some(false) {
        return Ok(());
    }
    let attend = match options.bool("attend_to_expansion_tokens")? {
        Some(attend) => attend,
        None => options.bool("attend_to_mask_tokens")?.unwrap_or(false),
    };
    multi.expansion = Some(Expansion {
        length: multi.query_length.as_ref().map_or(QUERY_TOKENS, |(length, _)| *length),
        field: (options.name.clone(), "query_length".to_owned()),
        seen: attend,
        token: None,
    });
    multi.query_length = fixed(&multi.expansion);
    Ok(())
}

/// Reads the fields of sentence-transformers in `sentence_bert_config.json`, which take precedence over PyLate's
/// fields.
fn own_fields(settings: &JsonFile, multi: &mut MultiVectorConfig) -> Result<(), Error> {
    if settings.has("query_expansion") && multi.expansion.is_some() {
        multi.query_length = None;
    }
    if let Some(length) = length(settings, "query_length")? {
        multi.query_length = Some(length);
    }
    if let Some(length) = length(settings, "document_length")? {
        multi.document_length = Some(length);
    }
    if settings.map.contains_key("query_expansion") {
        own_expansion(settings, multi)?;
    }
    Ok(())
}

fn own_expansion(file: &JsonFile, multi: &mut MultiVectorConfig) -> Result<(), Error> {
    let field = "query_expansion";
    let Some(nested) = file.object(field)? else {
        multi.expansion = None;
        return Ok(());
    };
    let known = ["strategy", "attend", "token", "length"];
    if let Some(key) = nested.map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(nested.unsupported(key, format!("supported fields: {}", known.join(", "))));
    }
    let length = nested.required_size("length")?;
    if let Some((most, place)) = multi.query_length.as_ref().filter(|(most, _)| *most < length) {
        let problem = format!(
            "is {length}, but {place} limits queries to {most} tokens; expected at most {most}"
        );
        return Err(nested.error("length", problem));
    }
    multi.expansion = Some(Expansion {
        length,
        field: (file.name.clone(), format!("{field}.length")),
        seen: nested.bool("attend")?.unwrap_or(false),
        token: nested.str("token")?.map(str::to_owned),
    });
    match nested.str("strategy")? {
        Some("fixed") => multi.query_length = fixed(&multi.expansion),
        Some("min") => {}
        _ => return Err(nested.unsupported("strategy", "supported: fixed and min")),
    }
    Ok(())
}

fn mask_fields(mask: &JsonFile, multi: &mut MultiVectorConfig) -> Result<(), Error> {
    if mask.raw("keep_only_token_ids").is_some_and(|ids| ids.as_array() != Some(&Vec::new())) {
        return Err(mask.unsupported(
            "keep_only_token_ids",
            "only null is supported, which keeps all tokens except those of the skiplist",
        ));
    }
    let words = mask.strings("skiplist_words")?.unwrap_or_default();
    multi.skiplist = words.into_iter().map(str::to_owned).collect();
    let tasks = match mask.raw("skiplist_tasks") {
        Some(serde_json::Value::String(task)) => vec![task.as_str()],
        _ => mask.strings("skiplist_tasks")?.unwrap_or(vec!["document"]),
    };
    multi.skips_in_queries = tasks.contains(&"query");
    multi.skips_in_documents = tasks.contains(&"document");
    Ok(())
}
