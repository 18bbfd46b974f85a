//! candle's BERT on the CPU, as a peer: `candle-peer MODEL`.

#[path = "../../batches.rs"]
mod batches;
#[path = "../../protocol.rs"]
mod protocol;

use std::error::Error;
use std::path::Path;

use batches::Batch;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("usage: candle-peer MODEL")?;
    let model = Path::new(&model);
    let tokenizer = batches::tokenizer(model).map_err(|error| error.to_string())?;
    let config: Config = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    let weights = std::fs::read(model.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    let bert = BertModel::load(weights, &config)?;
    let threads = std::thread::available_parallelism()?;
    let about = json!({
        "versions": {"candle": "0.11.1"},
        "device": format!("CPU, {threads} threads"),
    });
    protocol::serve(&about, |texts| {
        batches::embed(&tokenizer, texts, 1, |batch| Ok(vectors(&bert, batch)?))
    })
}

/// Returns the mean over the tokens of a text, scaled to length one.
fn vectors(bert: &BertModel, batch: &Batch) -> candle_core::Result<Vec<f32>> {
    let shape = (batch.texts, batch.length);
    let ids = Tensor::from_slice(&batch.ids, shape, &Device::Cpu)?;
    let mask = Tensor::from_vec(batch.mask::<u32>(), shape, &Device::Cpu)?;
    let hidden = bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
    let norm = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
    mean.broadcast_div(&norm)?.flatten_all()?.to_vec1()
}
