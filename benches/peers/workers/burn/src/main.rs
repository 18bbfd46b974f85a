//! A BERT model from burn's transformer blocks on burn's wgpu backend, as a peer: `burn-peer MODEL`.

#[path = "../../batches.rs"]
mod batches;
#[path = "../../protocol.rs"]
mod protocol;

use std::error::Error;
use std::path::Path;

use batches::Batch;
use burn::module::Module;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use serde_json::{Value, json};

/// The length of a batch is a multiple of this number, because burn tunes kernels for each new shape, which takes many
/// seconds.
const LENGTH_MULTIPLE: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("usage: burn-peer MODEL")?;
    let model = Path::new(&model);
    let tokenizer = batches::tokenizer(model).map_err(|error| error.to_string())?;
    let config = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let mut bert = Bert::new(&config, &device)?;
    bert.load(&model.join("model.safetensors"))?;
    let about = json!({
        "versions": {"burn": "0.22.1"},
        "device": format!("{device:?}"),
    });
    protocol::serve(&about, |texts| {
        batches::embed(&tokenizer, texts, LENGTH_MULTIPLE, |batch| vectors(&bert, batch, &device))
    })
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Bert {
    embeddings: Embeddings,
    encoder: TransformerEncoder,
}

impl Bert {
    fn new(config: &Value, device: &Device) -> Result<Self, Box<dyn Error>> {
        let size = |name: &str| -> Result<usize, Box<dyn Error>> {
            let value = config[name].as_u64().ok_or_else(|| format!("config.json: no {name}"))?;
            Ok(usize::try_from(value)?)
        };
        let width = size("hidden_size")?;
        let eps = config["layer_norm_eps"].as_f64().ok_or("config.json: no layer_norm_eps")?;
        let table = |name| -> Result<Embedding, Box<dyn Error>> {
            Ok(EmbeddingConfig::new(size(name)?, width).init(device))
        };
        let inner = size("intermediate_size")?;
        let (heads, layers) = (size("num_attention_heads")?, size("num_hidden_layers")?);
        Ok(Bert {
            embeddings: Embeddings {
                word_embeddings: table("vocab_size")?,
                position_embeddings: table("max_position_embeddings")?,
                token_type_embeddings: table("type_vocab_size")?,
                layer_norm: LayerNormConfig::new(width).with_epsilon(eps).init(device),
            },
            encoder: TransformerEncoderConfig::new(width, inner, heads, layers)
                .with_dropout(0.0)
                .with_layer_norm_eps(eps)
                .init(device),
        })
    }

    /// Loads the tensors of a BERT checkpoint into burn's blocks, which have other names. A missing tensor is an error.
    fn load(&mut self, weights: &Path) -> Result<(), Box<dyn Error>> {
        let mut store = SafetensorsStore::from_file(weights)
            .with_from_adapter(PyTorchToBurnAdapter)
            .with_key_remapping(r"^embeddings\.LayerNorm\.", "embeddings.layer_norm.")
            .with_key_remapping(r"^encoder\.layer\.(\d+)\.", "encoder.layers.$1.")
            .with_key_remapping(r"\.attention\.self\.(query|key|value)\.", ".mha.$1.")
            .with_key_remapping(r"\.attention\.output\.dense\.", ".mha.output.")
            .with_key_remapping(r"\.attention\.output\.LayerNorm\.", ".norm_1.")
            .with_key_remapping(r"\.intermediate\.dense\.", ".pwff.linear_inner.")
            .with_key_remapping(
                r"^(encoder\.layers\.\d+)\.output\.dense\.",
                "$1.pwff.linear_outer.",
            )
            .with_key_remapping(r"^(encoder\.layers\.\d+)\.output\.LayerNorm\.", "$1.norm_2.");
        let loaded = self.load_from(&mut store).map_err(|error| error.to_string())?;
        match loaded.missing.is_empty() && loaded.errors.is_empty() {
            true => Ok(()),
            false => Err(format!("{}: {loaded:?}", weights.display()).into()),
        }
    }
}

/// Returns the mean over the tokens of a text, scaled to length one.
fn vectors(bert: &Bert, batch: &Batch, device: &Device) -> Result<Vec<f32>, Box<dyn Error>> {
    let shape = [batch.texts, batch.length];
    let ids: Vec<i32> = batch.ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>()?;
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), device);
    let positions = Tensor::<1, Int>::arange(0..batch.length as i64, device).unsqueeze::<2>();
    let types = Tensor::<2, Int>::zeros([1, batch.length], device);
    let mask = Tensor::<2>::from_data(TensorData::new(batch.mask::<f32>(), shape), device);
    let padding = mask.clone().equal_elem(0.0);

    let tables = &bert.embeddings;
    let x = tables.word_embeddings.forward(ids)
        + tables.position_embeddings.forward(positions)
        + tables.token_type_embeddings.forward(types);
    let input = TransformerEncoderInput::new(tables.layer_norm.forward(x)).mask_pad(padding);
    let hidden = bert.encoder.forward(input);

    let counts = mask.clone().sum_dim(1);
    let mean = (hidden * mask.unsqueeze_dim::<3>(2)).sum_dim(1).squeeze_dim::<2>(1) / counts;
    let norm = mean.clone().square().sum_dim(1).sqrt();
    let values = (mean / norm).try_into_data().map_err(|error| format!("{error:?}"))?;
    values.try_to_vec().map_err(|error| format!("{error:?}").into())
}
