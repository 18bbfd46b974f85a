//! Reads `modules.json` and the modules that follow the transformer.

use serde_json::Value;

use crate::config::json::{MAX_JSON, brief, load_value};
use crate::config::{JsonFile, Pooling};
use crate::error::Error;
use crate::files::{ModelFiles, normalise};

/// A module that is applied after the transformer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Module {
    Pooling(Pooling),
    /// A linear layer: `activation(x · weightᵀ + bias)`, with the tensors `linear.weight` and `linear.bias` from the
    /// directory `path`.
    Dense {
        path: String,
        in_features: usize,
        out_features: usize,
        bias: bool,
        activation: DenseActivation,
        /// If true, the module's input is added to the result of the activation. If input and result differ in width,
        /// the input is first multiplied by `residual.weight`.
        residual: bool,
    },
    /// Layer normalisation with epsilon 1e-5, and with the tensors `norm.weight` and `norm.bias` from the directory
    /// `path`.
    LayerNorm {
        path: String,
        dimension: usize,
    },
    Normalize,
}

/// The activation function of a `Dense` module. `Gelu` is the exact function, which is computed with erf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DenseActivation {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Silu,
    Sigmoid,
}

/// One entry of `modules.json` or of a router.
pub(super) struct ModuleEntry {
    index: usize,
    /// The last component of the Python class name, which is the same in all versions of sentence-transformers.
    pub kind: String,
    /// The full class name, if the class is not part of sentence-transformers.
    pub code: Option<String>,
    /// The module's directory, such as `1_Pooling`. An empty path means the model's own directory.
    pub path: String,
}

pub(super) const MODULES: &str = "modules.json";
/// The maximum number of modules. Published models have fewer than ten.
const MAX_MODULES: usize = 100;
const SUPPORTED: &str = "supported modules are a Transformer and a Pooling, or a StaticEmbedding, and \
                         after these any of Dense, LayerNorm, Normalize and Dropout";

/// Returns the entries of `modules.json` in the order of its list. This is the order in which sentence-transformers
/// applies the modules. If the field `idx` gives another order, a note is added to `notes`.
pub(super) fn entries(
    files: &ModelFiles,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<ModuleEntry>>, Error> {
    let Some(value) = load_value(files, MODULES, MAX_JSON)? else { return Ok(None) };
    let Value::Array(list) = value else {
        return Err(Error::file(MODULES, "is not a JSON list; expected a list of modules"));
    };
    if list.len() > MAX_MODULES {
        let problem = format!("lists {} modules; at most {MAX_MODULES} are allowed", list.len());
        return Err(Error::file(MODULES, problem));
    }
    let mut names = Vec::new();
    let mut positions = Vec::new();
    let mut entries = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let Value::Object(map) = value else {
            let problem = format!("is {}; expected an object", brief(&value));
            return Err(Error::config(MODULES, format!("[{index}]"), problem));
        };
        // The entry becomes a child object of `whole`. Its name there is its index in the array, as `[1]`, so that an
        // error message can name the field `[1].type`.
        let nested = Value::Object(map);
        let whole = JsonFile::new(MODULES, [(format!("[{index}]"), nested)].into_iter().collect());
        let Some(file) = whole.object(&format!("[{index}]"))? else { continue };
        if let Some(name) = file.str("name")? {
            if names.iter().any(|known| known == name) {
                return Err(
                    file.error("name", format!("{name:?} is already used by an earlier module"))
                );
            }
            names.push(name.to_string());
        }
        positions.extend(file.usize("idx")?);
        entries.push(entry(index, &file)?);
    }
    if !positions.is_sorted() {
        notes.push(format!(
            "{MODULES}: the values of `idx` are not in ascending order; modules are applied in the \
             order of the list, as in sentence-transformers"
        ));
    }
    Ok(Some(entries))
}

fn entry(index: usize, file: &JsonFile) -> Result<ModuleEntry, Error> {
    let class = file.str("type")?.ok_or_else(|| file.error("type", "is missing"))?;
    let kind = class.rsplit('.').next().unwrap_or_default().to_string();
    // PyLate's class Dense is the module Dense of sentence-transformers under another name.
    let own = class.starts_with("sentence_transformers.") || class == "pylate.models.Dense.Dense";
    // A custom class with the name `Transformer` is accepted here. Later, the table of architectures decides whether
    // this class is supported.
    let known_later = index == 0 && kind == "Transformer";
    if !own && !known_later {
        return Err(file.unsupported(
            "type",
            "this module is Python code that comes with the model, and Vectile does not run Python; use a model whose modules are part of sentence-transformers",
        ));
    }
    let code = (!own).then(|| class.to_string());
    let path = file.str("path")?.ok_or_else(|| file.error("path", "is missing"))?;
    let path = match path {
        "" | "." | "./" => String::new(),
        path => normalise(path).map_err(|error| file.error("path", error.to_string()))?,
    };
    Ok(ModuleEntry { index, kind, code, path })
}

/// A `Router` module, which sends queries and documents to different modules.
pub(super) struct Routes {
    /// The name of the router's file, for error messages.
    pub file: String,
    /// The name and the modules of each route, in the order of the file.
    pub routes: Vec<(String, Vec<ModuleEntry>)>,
    /// The name of the route for texts that are neither queries nor documents.
    pub default: Option<String>,
}

impl Routes {
    pub fn load(files: &ModelFiles, router: &ModuleEntry) -> Result<Self, Error> {
        let base = match router.path.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let name = format!("{base}router_config.json");
        let file = JsonFile::load(files, &name)?.ok_or_else(|| {
            Error::file(
                &name,
                format!("is missing, but {MODULES} names it; download the model again"),
            )
        })?;
        let missing = |field: &str| file.error(field, "is missing");
        let types = file.object("types")?.ok_or_else(|| missing("types"))?;
        let structure = file.object("structure")?.ok_or_else(|| missing("structure"))?;
        let mut routes = Vec::new();
        for route in structure.map.keys() {
            let mut modules = Vec::new();
            for (index, name) in structure.strings(route)?.unwrap_or_default().iter().enumerate() {
                let class = types.str(name)?.ok_or_else(|| types.error(name, "is missing"))?;
                if !class.starts_with("sentence_transformers.") {
                    return Err(
                        types.unsupported(name, "supported: modules of sentence-transformers")
                    );
                }
                let kind = class.rsplit('.').next().unwrap_or_default().to_string();
                let path = normalise(&format!("{base}{name}"));
                let path = path.map_err(|error| types.error(name, error.to_string()))?;
                modules.push(ModuleEntry { index, kind, code: None, path });
            }
            routes.push((route.clone(), modules));
        }
        let parameters = file.object("parameters")?;
        let mappings = parameters.as_ref().and_then(|p| p.raw("route_mappings")?.as_object());
        if let (Some(parameters), Some(true)) = (&parameters, mappings.map(|map| !map.is_empty())) {
            return Err(parameters.unsupported(
                "route_mappings",
                "only an empty object is supported; with it, the route `query` takes all queries, \
                 and the route `document` takes all documents",
            ));
        }
        let named = parameters.as_ref().map(|p| p.str("default_route")).transpose()?.flatten();
        let default = named.map(str::to_string).or_else(|| Some(routes.first()?.0.clone()));
        Ok(Routes { file: name, routes, default })
    }
}

/// Returns the modules after the transformer. Checks that their order is supported and that the output width of each
/// module is the input width of the next module.
pub(super) fn after_transformer(
    files: &ModelFiles,
    entries: &[ModuleEntry],
    notes: &mut Vec<String>,
) -> Result<Vec<Module>, Error> {
    let modules = parse(files, entries, notes)?;
    check_order(&modules)?;
    check_widths(&modules)?;
    Ok(modules)
}

/// Returns the modules after a static embedding. Mean pooling is not listed, because the static embedding itself
/// computes the mean.
pub(super) fn after_static(
    files: &ModelFiles,
    entries: &[ModuleEntry],
    notes: &mut Vec<String>,
) -> Result<Vec<Module>, Error> {
    let modules = parse(files, entries, notes)?;
    if modules.iter().any(|module| matches!(module, Module::Pooling(_))) {
        let problem = format!("has a Pooling after a StaticEmbedding; {SUPPORTED}");
        return Err(Error::config(MODULES, "type", problem));
    }
    Ok(modules)
}

/// Returns the modules after the transformer of a multi-vector encoder, which are applied to token vectors. Also
/// returns the config of the `MultiVectorMask` module.
///
/// If `converted` is true, the model was a single-vector model. The pooling of that model, and the normalisation after
/// the pooling, are then left out, as in sentence-transformers.
pub(super) fn of_tokens(
    files: &ModelFiles,
    entries: &[ModuleEntry],
    converted: bool,
    notes: &mut Vec<String>,
) -> Result<(Vec<Module>, Option<JsonFile>), Error> {
    let supported = "supported modules of a multi-vector encoder are one Transformer, and after it any of \
                     Dense, Normalize and MultiVectorMask";
    let (mut modules, mut mask) = (Vec::new(), None);
    for entry in entries {
        match entry.kind.as_str() {
            "Dense" => {
                let file = entry.required(files)?;
                if !converted {
                    only_on(&file, TOKENS)?;
                }
                modules.push(dense(entry, &file, notes)?);
            }
            "Normalize" => {
                let file = JsonFile::load(files, &entry.file_name())?;
                let name = file.as_ref().map(|file| file.str("module_input_name")).transpose()?;
                match name.flatten() {
                    Some(TOKENS) => modules.push(Module::Normalize),
                    _ if converted => {}
                    _ => {
                        let file = entry.required(files)?;
                        return Err(
                            file.unsupported("module_input_name", "supported: token_embeddings")
                        );
                    }
                }
            }
            "MultiVectorMask" if mask.is_none() => mask = Some(entry.required(files)?),
            "Pooling" if converted => {}
            other => {
                let field = format!("[{}].type", entry.index);
                return Err(Error::unsupported(MODULES, field, other, supported));
            }
        }
    }
    Ok((modules, mask))
}

fn parse(
    files: &ModelFiles,
    entries: &[ModuleEntry],
    notes: &mut Vec<String>,
) -> Result<Vec<Module>, Error> {
    let mut modules = Vec::new();
    for entry in entries {
        let module = match entry.kind.as_str() {
            "Pooling" => Some(Module::Pooling(Pooling::parse(&entry.required(files)?, notes)?)),
            "Dense" => {
                let file = entry.required(files)?;
                only_on(&file, SENTENCE)?;
                Some(dense(entry, &file, notes)?)
            }
            "LayerNorm" => {
                let dimension = entry.required(files)?.required_width("dimension")?;
                Some(Module::LayerNorm { path: entry.path.clone(), dimension })
            }
            "Normalize" => Some(normalize(entry, files)?),
            // Dropout has no effect outside training, so the module is skipped.
            "Dropout" => None,
            "Transformer" => return Err(entry.wrong("is a second Transformer")),
            "StaticEmbedding" => {
                return Err(entry.wrong("is a StaticEmbedding after another module"));
            }
            other => {
                let field = format!("[{}].type", entry.index);
                return Err(Error::unsupported(MODULES, field, other, SUPPORTED));
            }
        };
        modules.extend(module);
    }
    Ok(modules)
}

impl ModuleEntry {
    fn file_name(&self) -> String {
        match self.path.as_str() {
            "" => "config.json".to_string(),
            path => format!("{path}/config.json"),
        }
    }

    pub fn required(&self, files: &ModelFiles) -> Result<JsonFile, Error> {
        let name = self.file_name();
        JsonFile::load(files, &name)?.ok_or_else(|| {
            let problem = format!("is missing, but {MODULES} names it; download the model again");
            Error::file(name, problem)
        })
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::config(MODULES, format!("[{}].type", self.index), format!("{problem}; {SUPPORTED}"))
    }
}

/// Reads a `Normalize` module. The module's directory is often missing, because the module has no settings.
fn normalize(entry: &ModuleEntry, files: &ModelFiles) -> Result<Module, Error> {
    if !entry.path.is_empty()
        && let Some(file) = JsonFile::load(files, &entry.file_name())?
    {
        only_on(&file, SENTENCE)?;
    }
    Ok(Module::Normalize)
}

const SENTENCE: &str = "sentence_embedding";
const TOKENS: &str = "token_embeddings";

fn only_on(file: &JsonFile, what: &str) -> Result<(), Error> {
    for field in ["module_input_name", "module_output_name"] {
        if file.str(field)?.is_some_and(|name| name != what) {
            return Err(file.unsupported(field, format!("supported: {what}")));
        }
    }
    Ok(())
}

fn dense(entry: &ModuleEntry, file: &JsonFile, notes: &mut Vec<String>) -> Result<Module, Error> {
    let known = [
        "in_features",
        "out_features",
        "bias",
        "activation_function",
        "module_input_name",
        "module_output_name",
        "use_residual",
    ];
    for field in file.map.keys().filter(|field| !known.contains(&field.as_str())) {
        notes.push(format!("{}: `{field}` is ignored, as in sentence-transformers", file.name));
    }
    Ok(Module::Dense {
        path: entry.path.clone(),
        in_features: file.required_width("in_features")?,
        out_features: file.required_width("out_features")?,
        bias: file.bool("bias")?.unwrap_or(true),
        activation: activation(file)?,
        residual: file.bool("use_residual")?.unwrap_or(false),
    })
}

/// Returns the activation, which must be a class of PyTorch. sentence-transformers replaces any other class with tanh,
/// which gives wrong vectors for a model that was trained with another activation.
fn activation(file: &JsonFile) -> Result<DenseActivation, Error> {
    let supported = "supported activation functions are torch.nn's Identity, Tanh, ReLU, GELU, \
                     SiLU and Sigmoid";
    if file.map.get("activation_function").is_some_and(Value::is_null) {
        return Err(file.unsupported("activation_function", supported));
    }
    let Some(class) = file.str("activation_function")? else { return Ok(DenseActivation::Tanh) };
    let name = class.strip_prefix("torch.nn.").and_then(|name| name.rsplit('.').next());
    match name {
        Some("Identity") => Ok(DenseActivation::Identity),
        Some("Tanh") => Ok(DenseActivation::Tanh),
        Some("ReLU") => Ok(DenseActivation::Relu),
        Some("GELU") => Ok(DenseActivation::Gelu),
        Some("SiLU") => Ok(DenseActivation::Silu),
        Some("Sigmoid") => Ok(DenseActivation::Sigmoid),
        _ => Err(file.unsupported("activation_function", supported)),
    }
}

fn check_order(modules: &[Module]) -> Result<(), Error> {
    let poolings = modules.iter().filter(|module| matches!(module, Module::Pooling(_))).count();
    let problem = match poolings {
        0 => "has no Pooling module".to_string(),
        1 if matches!(modules.first(), Some(Module::Pooling(_))) => return Ok(()),
        1 => "has a module between the Transformer and Pooling".to_string(),
        many => format!("has {many} Pooling modules"),
    };
    Err(Error::config(MODULES, "type", format!("{problem}; {SUPPORTED}")))
}

pub(super) fn check_widths(modules: &[Module]) -> Result<(), Error> {
    check_widths_after(modules, 0)
}

/// Checks the modules like [`check_widths`]. The input of the first module has `width` values.
pub(super) fn check_widths_after(modules: &[Module], mut width: usize) -> Result<(), Error> {
    for module in modules {
        let (path, field, expected) = match module {
            Module::Pooling(pooling) => {
                width = pooling.output_dimension();
                continue;
            }
            Module::Normalize => continue,
            Module::Dense { path, in_features, .. } => (path, "in_features", *in_features),
            Module::LayerNorm { path, dimension } => (path, "dimension", *dimension),
        };
        if expected != width {
            let problem = format!(
                "is {expected}, but the module before it gives {width} values; the two must be \
                 equal"
            );
            return Err(Error::config(format!("{path}/config.json"), field, problem));
        }
        if let Module::Dense { out_features, .. } = module {
            width = *out_features;
        }
    }
    Ok(())
}
