//! The options of calls, which JavaScript passes as JSON.

use js_sys::Function;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vectile::{
    AdapterChoice, EmbedOptions, Feature, LoadProgress, ModelBuilder, OutputPrecision,
    RerankOptions, TextModel,
};
use wasm_bindgen::JsValue;

use crate::error;
use crate::files::Files;

/// Parses options. The error names an option that does not exist or has another type.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, JsValue> {
    serde_json::from_str(json).map_err(|problem| {
        let problem = problem.to_string();
        // serde_json adds the position in the text, which the caller did not write.
        let problem = problem.rsplit_once(" at line").map_or(&problem[..], |(problem, _)| problem);
        error::option(&format!("the options are wrong: {problem}"))
    })
}

fn option<T>(text: Option<String>, otherwise: T) -> Result<T, JsValue>
where
    T: std::str::FromStr<Err = vectile::Error>,
{
    text.map_or(Ok(otherwise), |text| text.parse().map_err(error::of))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Load {
    activations: Option<String>,
    adapter: Option<String>,
    batch_tokens: Option<usize>,
    disable: Vec<String>,
    dtype: Option<String>,
    half_fallback: Option<String>,
    lora_task: Option<String>,
    max_memory: Option<u64>,
}

/// Loads a model of any kind. `progress(done, total)` is called with bytes of weights.
pub async fn load<M: TextModel>(
    builder: impl FnOnce(vectile::ModelFiles) -> ModelBuilder<M>,
    files: Files,
    options: &str,
    progress: Option<Function>,
) -> Result<M, JsValue> {
    let options: Load = parse(options)?;
    let features: Result<Vec<Feature>, _> =
        options.disable.iter().map(|name| name.parse()).collect();
    let mut builder = builder(files.into_model()?)
        .disable(features.map_err(error::of)?)
        .dtype(option(options.dtype, Default::default())?)
        .half_fallback(option(options.half_fallback, Default::default())?)
        .adapter(adapter(options.adapter)?);
    if let Some(activations) = options.activations {
        builder = builder.activations(activations.parse().map_err(error::of)?);
    }
    if let Some(tokens) = options.batch_tokens {
        builder = builder.batch_tokens(tokens);
    }
    if let Some(task) = options.lora_task {
        builder = builder.lora_task(task);
    }
    if let Some(bytes) = options.max_memory {
        builder = builder.max_memory(bytes);
    }
    if let Some(progress) = progress {
        let progress = OneThread(progress);
        builder = builder.on_progress(move |LoadProgress { done, total }| {
            let (done, total) = (JsValue::from(done as f64), JsValue::from(total as f64));
            // An error of the page's own function must not end the load.
            let _ = progress.function().call2(&JsValue::NULL, &done, &total);
        });
    }
    builder.build().await.map_err(error::of)
}

/// `auto` is the best adapter, `webgpu` the GPU, `cpu` the CPU. Any other text is a part of an adapter's name.
fn adapter(name: Option<String>) -> Result<AdapterChoice, JsValue> {
    match name.as_deref() {
        None | Some("auto") => Ok(AdapterChoice::Best),
        Some("webgpu") => Ok(AdapterChoice::Gpu),
        Some(name) => name.parse().map_err(error::of),
    }
}

/// A function that only this thread calls.
struct OneThread(Function);

// SAFETY: without the target feature `atomics`, wasm32 has one thread, so no other thread can use the function.
unsafe impl Send for OneThread {}
// SAFETY: as above.
unsafe impl Sync for OneThread {}

impl OneThread {
    fn function(&self) -> &Function {
        &self.0
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Call {
    #[serde(rename = "as")]
    task: Option<String>,
    max_seq_length: Option<usize>,
    normalize: bool,
    on_too_long: Option<String>,
    precision: Option<String>,
    prompt: Option<String>,
    prompt_name: Option<String>,
    truncate_dim: Option<usize>,
}

/// The options of a call with texts, and the precision of its rows.
pub fn embed(options: &str) -> Result<(EmbedOptions, OutputPrecision), JsValue> {
    let call: Call = parse(options)?;
    let task = call.task.map(|task| task.parse().map_err(error::of)).transpose()?;
    let options = EmbedOptions {
        prompt_name: call.prompt_name,
        prompt: call.prompt,
        task,
        truncate_dim: call.truncate_dim,
        normalize: call.normalize,
        max_seq_length: call.max_seq_length,
        on_too_long: option(call.on_too_long, Default::default())?,
    };
    Ok((options, option(call.precision, OutputPrecision::Float32)?))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Pairs {
    logits: bool,
    max_length: Option<usize>,
    on_too_long: Option<String>,
    prompt: Option<String>,
    prompt_name: Option<String>,
}

/// The options of a call with pairs of texts.
pub fn rerank(options: &str) -> Result<RerankOptions, JsValue> {
    let pairs: Pairs = parse(options)?;
    Ok(RerankOptions {
        prompt_name: pairs.prompt_name,
        prompt: pairs.prompt,
        logits: pairs.logits,
        max_length: pairs.max_length,
        on_too_long: option(pairs.on_too_long, Default::default())?,
    })
}
