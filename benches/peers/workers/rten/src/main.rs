//! rten on the CPU, as a peer: `rten-peer MODEL MODEL.onnx`.

#[path = "../../batches.rs"]
mod batches;
#[path = "../../protocol.rs"]
mod protocol;

use std::error::Error;
use std::path::Path;

use batches::Batch;
use rten::Model;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (directory, graph) =
        args.next().zip(args.next()).ok_or("usage: rten-peer MODEL MODEL.onnx")?;
    let tokenizer = batches::tokenizer(Path::new(&directory)).map_err(|error| error.to_string())?;
    let model = Model::load_file(&graph)?;
    let threads = std::thread::available_parallelism()?;
    let about = json!({
        "versions": {"rten": "0.27.0"},
        "device": format!("CPU, {threads} threads"),
    });
    protocol::serve(&about, |texts| {
        batches::embed(&tokenizer, texts, 1, |batch| vectors(&model, batch))
    })
}

/// Returns the mean over the tokens of a text, scaled to length one.
fn vectors(model: &Model, batch: &Batch) -> Result<Vec<f32>, Box<dyn Error>> {
    let shape = [batch.texts, batch.length];
    let ids: Vec<i32> = batch.ids.iter().map(|id| *id as i32).collect();
    let ids = NdTensor::from_data(shape, ids);
    let mask = NdTensor::from_data(
        shape,
        batch.mask::<u8>().into_iter().map(i32::from).collect::<Vec<i32>>(),
    );
    let types = NdTensor::<i32, 2>::zeros(shape);
    let inputs = vec![
        (model.node_id("input_ids")?, ids.view().into()),
        (model.node_id("attention_mask")?, mask.view().into()),
        (model.node_id("token_type_ids")?, types.view().into()),
    ];
    let [hidden] = model.run_n(inputs, [model.node_id("last_hidden_state")?], None)?;
    let hidden: NdTensor<f32, 3> = hidden.try_into()?;
    let mut rows = Vec::new();
    for (text, &length) in batch.lengths.iter().enumerate() {
        let mut mean = vec![0.0_f32; hidden.size(2)];
        for token in 0..length {
            for (sum, value) in mean.iter_mut().zip(hidden.slice((text, token)).iter()) {
                *sum += value;
            }
        }
        // The division by the number of tokens does not change the direction.
        let norm = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
        rows.extend(mean.iter().map(|value| value / norm));
    }
    Ok(rows)
}
