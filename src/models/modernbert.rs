//! ModernBERT (Warner et al. 2024, <https://arxiv.org/abs/2412.13663>): modernbert-embed, GTE
//! ModernBERT, Granite Embedding R2.
//!
//! A norm comes before each block except the first attention, and one norm follows all layers. Every
//! `global_attn_every_n_layers`-th layer, starting with the first, sees the whole text. The other layers have a window
//! of half of `local_attention` tokens in each direction. Layers with a window and layers without a window have
//! different rotary bases. The first half of `Wi` is the gate.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, attend};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Epilogue, Linear, matmul, matmul_then};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::fields::{count_or, epsilon};
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::sizes::{EncoderSizes, FIELDS, Fields};
use crate::models::blocks::tables::table_rows;
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Axis, Gate, Loader, Table, WeightFiles};

const WORDS: &str = "embeddings.tok_embeddings.weight";
const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// Which linear layers and norms have a bias.
#[derive(Debug, Clone, Copy)]
struct Biases {
    attention: bool,
    mlp: bool,
    norms: bool,
}

/// A ModernBERT model whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
struct ModernBert {
    prefix: String,
    sizes: EncoderSizes,
    rows: usize,
    eps: f32,
    biases: Biases,
    /// For each layer, whether it has an attention window.
    local: Vec<bool>,
    /// The number of tokens that a window extends in each direction.
    window: usize,
    /// The rotary positions of layers without a window, and of layers with a window.
    rotary: [Rotary; 2],
}

#[derive(Debug)]
struct LoadedModernBert {
    model: ModernBert,
    words: Table,
    norm: Norm,
    layers: Vec<Layer>,
    final_norm: Norm,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Option<Norm>,
    qkv: Linear,
    output: Linear,
    norm: Norm,
    up: Linear,
    down: Linear,
}

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let fields = Fields { activation: "hidden_activation", ..FIELDS };
    let sizes = EncoderSizes::read(config, &fields, "gelu")?;
    let prefix = weights.prefix_of(WORDS)?;
    // Published configs have these two fields of BERT, which ModernBERT does not use.
    config.mark_read(&["layer_norm_eps", "position_embedding_type"]);
    let flag = |field: &str| Ok::<bool, Error>(config.bool(field)?.unwrap_or(false));
    let biases = Biases {
        attention: flag("attention_bias")?,
        mlp: flag("mlp_bias")?,
        norms: flag("norm_bias")?,
    };
    if config.has("rope_scaling") {
        return Err(config.unsupported("rope_scaling", "supported: rope_parameters"));
    }
    let rotary = |layer_type: &str, field: &str, default: f64| {
        let theta = config.f64(field)?.unwrap_or(default);
        Rotary::read(config, sizes.head(), theta, Some(layer_type))
    };
    // transformers 5 stores half of the window as `sliding_window`, which takes precedence.
    let window = match config.usize("sliding_window")? {
        Some(half) => {
            config.mark_read(&["local_attention"]);
            half
        }
        None => count_or(config, "local_attention", 128, 1 << 20)? / 2,
    };
    Ok(Box::new(ModernBert {
        rows: weights.shape(&format!("{prefix}{WORDS}"))?.first().copied().unwrap_or(0),
        eps: epsilon(config, "norm_eps", 1e-5)?,
        local: local_layers(config, sizes.layers)?,
        rotary: [
            rotary(GLOBAL, "global_rope_theta", 160_000.0)?,
            rotary(LOCAL, "local_rope_theta", 10_000.0)?,
        ],
        prefix,
        sizes,
        biases,
        window,
    }))
}

/// Returns for each layer whether it has a window, by `layer_types` of transformers 5 or by
/// `global_attn_every_n_layers`.
fn local_layers(config: &JsonFile, layers: usize) -> Result<Vec<bool>, Error> {
    let Some(types) = config.strings("layer_types")? else {
        let every = count_or(config, "global_attn_every_n_layers", 3, 1000)?;
        return Ok((0..layers).map(|layer| !layer.is_multiple_of(every)).collect());
    };
    config.mark_read(&["global_attn_every_n_layers"]);
    if types.len() != layers {
        let problem = format!("has {} entries, but num_hidden_layers is {layers}", types.len());
        return Err(config.error("layer_types", problem));
    }
    if types.iter().any(|kind| ![GLOBAL, LOCAL].contains(kind)) {
        let supported = format!("supported: {GLOBAL} and {LOCAL}");
        return Err(config.unsupported("layer_types", supported));
    }
    Ok(types.iter().map(|kind| *kind == LOCAL).collect())
}

impl ModernBert {
    fn load_layer(&self, loader: &mut Loader, layer: usize) -> Result<Layer, Error> {
        let EncoderSizes { hidden, heads, intermediate, .. } = self.sizes;
        let Biases { attention, mlp, norms } = self.biases;
        let (wide, inner, head) =
            (Axis::plain(hidden), Axis::plain(intermediate), self.sizes.head());
        let part = |name: &str| format!("{}layers.{layer}.{name}", self.prefix);
        let mut norm = |name: &str| loader.norm_with(&part(name), hidden, self.eps, norms);
        let attention_norm = (layer > 0).then(|| norm("attn_norm")).transpose()?;
        let norm = norm("mlp_norm")?;
        let rotary = &self.rotary[usize::from(self.local[layer])];
        let three = rotary.columns(Axis { blocks: 3 * heads, block: head }, 2 * heads);
        let context = Axis { blocks: heads, block: head };
        Ok(Layer {
            attention_norm,
            qkv: loader.linear(&[&part("attn.Wqkv")], attention, wide, three)?,
            output: loader.linear(&[&part("attn.Wo")], attention, context, wide)?,
            norm,
            up: loader.gated(&[&part("mlp.Wi")], Gate::First, mlp, wide, inner)?,
            down: loader.linear(&[&part("mlp.Wo")], mlp, inner, wide)?,
        })
    }
}

impl Transformer for ModernBert {
    fn facts(&self) -> Facts {
        let EncoderSizes { hidden, intermediate, .. } = self.sizes;
        Facts {
            hidden,
            projected_from: None,
            widest: hidden
                .max(3 * self.sizes.head_axis().padded())
                .max(intermediate.next_multiple_of(4)),
            table_rows: self.rows,
            type_rows: None,
            positions: None,
            // Each layer adds to the hidden states, and no norm bounds their sum. Activations may therefore exceed the
            // range of f16.
            f16: F16Facts { activations_unsafe: true },
        }
    }

    fn describe(&self) -> String {
        let EncoderSizes { hidden, heads, intermediate, layers, activation } = self.sizes;
        let local = self.local.iter().filter(|local| **local).count();
        let [whole, window] = self.rotary.each_ref().map(|rotary| rotary.theta);
        format!(
            "{layers} layers, {local} of them with a window of {} tokens to each side, hidden \
             {hidden}, {heads} heads, gated intermediate {intermediate}, rotary bases {whole} and \
             {window}, {activation:?}",
            self.window
        )
    }

    fn reach(&self) -> Option<usize> {
        self.local.contains(&true).then_some(self.window)
    }

    /// Loads embeddings, layers and the final norm. Heads are not loaded.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let hidden = self.sizes.hidden;
        let named = |name: &str| format!("{}{name}", self.prefix);
        let words = loader.table(&named(WORDS), hidden)?;
        let norms = self.biases.norms;
        let norm = loader.norm_with(&named("embeddings.norm"), hidden, self.eps, norms)?;
        let layers = (0..self.sizes.layers)
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        let final_norm = loader.norm_with(&named("final_norm"), hidden, self.eps, norms)?;
        Ok(Box::new(LoadedModernBert { model: self.clone(), words, norm, layers, final_norm }))
    }
}

impl LoadedTransformer for LoadedModernBert {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let ModernBert { sizes, local, window, rotary, .. } = &self.model;
        let (words, rows) = table_rows(builder, &self.words, &batch.ids);
        let rows: Vec<[u32; 4]> = rows.into_iter().map(|row| [row, 0, 0, 0]).collect();
        let x = lookup_of(builder, &rows, &[words], sizes.hidden, 1.0);
        let mut x = layer_norm(builder, x, None, &self.norm);
        let angles = [rotary[0].angles(builder, batch), rotary[1].angles(builder, batch)];
        let whole = Attention::new(sizes.heads, sizes.head());
        let part = Attention { before: Some(*window), after: Some(*window), ..whole };
        let none = Activation::None;
        for (i, (layer, local)) in self.layers.iter().zip(local).enumerate() {
            builder.layer(i);
            let kind = usize::from(*local);
            let normed = match &layer.attention_norm {
                Some(norm) => layer_norm(builder, x, None, norm),
                None => x,
            };
            let rotated = Epilogue::Rotated(angles[kind].rotation(2 * sizes.heads, sizes.head()));
            let qkv = matmul_then(builder, "qkv", normed, &layer.qkv, rotated);
            let sees = if *local { &part } else { &whole };
            let at = [0, 1, 2].map(|part| Heads { of: qkv, head: part * sizes.heads });
            let context = attend(builder, at, &batch.texts, sees, None);
            x = matmul(builder, "attended", context, &layer.output, none, Some(x));
            let normed = layer_norm(builder, x, None, &layer.norm);
            let gated = Epilogue::Gated(sizes.activation);
            let gated = matmul_then(builder, "gated", normed, &layer.up, gated);
            x = matmul(builder, "down", gated, &layer.down, none, Some(x));
        }
        layer_norm(builder, x, None, &self.final_norm)
    }
}
