//! Encoders with a norm after each residual sum, as in BERT. Their positions affect only the attention: they either
//! rotate queries and keys, or add a bias that depends on the distance (`ALiBi`). The source file of a model family
//! gives the sizes and the tensor names.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::gpu::graph::TensorId;
use crate::kernels::attention::{Attention, DistanceBias, Heads, TextSpan, attend, distance_bias};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Epilogue, Linear, matmul, matmul_then};
use crate::kernels::rope::Angles;
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::embeddings::{TYPES, WORDS};
use crate::models::blocks::experts::{Experts, LoadedExperts};
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::sizes::EncoderSizes;
use crate::models::blocks::tables::table_rows;
use crate::models::{Facts, LoadedTransformer, Transformer, no_tasks};
use crate::weights::{Axis, Columns, Gate, Loader, Lora, Table, WeightFiles};

/// The method by which attention takes the order of tokens into account.
#[derive(Debug, Clone)]
pub(in crate::models) enum Positions {
    Rotary(Rotary),
    /// A bias that decreases with the distance in both directions, with a slope for each head (Press et al. 2021,
    /// <https://arxiv.org/abs/2108.12409>).
    Alibi,
}

/// The tensor names of a model family. The names of a layer's parts are appended to the name of the layer.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct TensorNames {
    pub embeddings_norm: &'static str,
    /// The prefix before a layer's number.
    pub layers: &'static str,
    /// The names of the matrices for queries, keys and values: one name if a single matrix holds all three, or else
    /// three names.
    pub qkv: &'static [&'static str],
    pub output: &'static str,
    pub attention_norm: &'static str,
    /// The name of one matrix for the gate and the up projection, or the names of two matrices.
    pub up: &'static [&'static str],
    pub down: &'static str,
    pub norm: &'static str,
}

/// The names of the additional norms of jina-embeddings-v2-base-code.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct MoreNorms {
    /// The norms of the queries and of the keys, over all heads.
    pub queries_keys: [&'static str; 2],
    /// A second norm after attention, whose input is the layer's input plus the result of the first norm.
    pub after_attention: &'static str,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Biases {
    pub qkv: bool,
    pub output: bool,
    pub up: bool,
    pub down: bool,
}

/// The tasks for which a model has a LoRA.
#[derive(Debug, Clone)]
pub(in crate::models) struct LoraTasks {
    pub names: Vec<String>,
    pub rank: usize,
    pub scale: f32,
    /// The index of the task whose LoRA is added to the weights; `None` if no LoRA is added.
    pub chosen: Option<usize>,
}

/// An encoder whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
pub(in crate::models) struct RotaryEncoder {
    /// The prefix of all tensor names.
    pub prefix: String,
    pub sizes: EncoderSizes,
    /// The number of rows of the token table.
    pub rows: usize,
    /// The number of rows of the type table; `None` if there is no such table.
    pub types: Option<usize>,
    /// The epsilon of all norms.
    pub eps: f32,
    pub positions: Positions,
    pub names: TensorNames,
    pub more_norms: Option<MoreNorms>,
    pub biases: Biases,
    /// The half of the up projection that is the gate; `None` if there is no gate.
    pub gate: Option<Gate>,
    /// The numbers of experts, and the layers that have experts; `None` if there are no experts.
    pub experts: Option<Experts>,
    pub tasks: Option<LoraTasks>,
    pub f16: F16Facts,
}

#[derive(Debug)]
struct LoadedRotaryEncoder {
    model: RotaryEncoder,
    words: Table,
    types: Option<Table>,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    projections: Projections,
    output: Linear,
    attention_norm: Norm,
    second_norm: Option<Norm>,
    feed_forward: FeedForward,
    norm: Norm,
}

#[derive(Debug)]
enum FeedForward {
    Dense { up: Linear, down: Linear },
    Experts(LoadedExperts),
}

/// The projection to queries, keys and values: one matmul, or three if norms follow the queries and the keys.
#[derive(Debug)]
enum Projections {
    Together(Linear),
    Normed { queries: (Linear, Norm), keys: (Linear, Norm), values: Linear },
}

/// The positions of a batch's tokens, in the format that attention needs.
enum PositionTerms {
    Rotated(Angles),
    Distance(DistanceBias),
}

/// Returns the number of rows of the token table and, if `types` is true, of the type table.
pub(in crate::models) fn table_sizes(
    weights: &WeightFiles,
    prefix: &str,
    types: bool,
) -> Result<(usize, Option<usize>), Error> {
    let rows = |name: &str| -> Result<usize, Error> {
        Ok(weights.shape(&format!("{prefix}{name}"))?.first().copied().unwrap_or(0))
    };
    Ok((rows(WORDS)?, types.then(|| rows(TYPES)).transpose()?))
}

/// Returns an error if an option that changes the computation has a value other than false or 0.
pub(in crate::models) fn refuse_options(config: &JsonFile, fields: &[&str]) -> Result<(), Error> {
    for field in fields {
        let off = config.raw(field).is_none_or(|value| {
            value == &serde_json::Value::Bool(false) || value.as_f64() == Some(0.0)
        });
        if !off {
            return Err(
                config.unsupported(field, "supported: the value false or 0, or no such field")
            );
        }
    }
    Ok(())
}

/// Returns the slopes of `ALiBi` for `heads` heads. If their number n is a power of two, they are 2^(−8 (h + 1) / n).
/// Otherwise they are the slopes for the power of two below n, followed by every second slope for the power of two
/// above n.
pub(in crate::models) fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power = |n: usize| (1..=n).map(move |h| 2f64.powf(-8.0 * h as f64 / n as f64));
    let below = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    power(below).chain(power(2 * below).step_by(2)).take(heads).collect()
}

impl LoraTasks {
    fn lora(&self) -> Option<Lora> {
        let LoraTasks { ref names, rank, scale, chosen } = *self;
        chosen.map(|task| Lora { task, tasks: names.len(), rank, scale })
    }
}

impl RotaryEncoder {
    fn load_layer(&self, loader: &mut Loader, layer: usize) -> Result<Layer, Error> {
        let EncoderSizes { hidden, heads, .. } = self.sizes;
        let TensorNames { layers, qkv, output, attention_norm, norm, .. } = self.names;
        let part = |name: &str| format!("{}{layers}.{layer}.{name}", self.prefix);
        let wide = Axis::plain(hidden);
        let context = self.sizes.head_axis();
        let named: Vec<String> = qkv.iter().map(|name| part(name)).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let projections = match (&named[..], self.more_norms) {
            (&[queries, keys, values], Some(more)) => {
                let mut one = |name| loader.linear(&[name], self.biases.qkv, wide, context);
                let (queries, keys, values) = (one(queries)?, one(keys)?, one(values)?);
                let mut norm = |name| loader.norm(&part(name), hidden, self.eps);
                Projections::Normed {
                    queries: (queries, norm(more.queries_keys[0])?),
                    keys: (keys, norm(more.queries_keys[1])?),
                    values,
                }
            }
            (parts, _) => {
                let heads_a_part = 3 * heads / parts.len();
                let axis = Axis { blocks: heads_a_part, ..context };
                // Attention rotates queries and keys but not values, so only the heads of queries and keys are
                // reordered.
                let columns = |part: usize| match &self.positions {
                    Positions::Rotary(rotary) => {
                        rotary.columns(axis, (2 * heads).saturating_sub(part * heads_a_part))
                    }
                    Positions::Alibi => axis.into(),
                };
                let parts: Vec<(&str, Columns)> =
                    parts.iter().enumerate().map(|(at, part)| (*part, columns(at))).collect();
                Projections::Together(loader.joined(&parts, self.biases.qkv, wide)?)
            }
        };
        let second = self.more_norms.map(|more| part(more.after_attention));
        Ok(Layer {
            projections,
            output: loader.linear(&[&part(output)], self.biases.output, context, wide)?,
            attention_norm: loader.norm(&part(attention_norm), hidden, self.eps)?,
            second_norm: second.map(|name| loader.norm(&name, hidden, self.eps)).transpose()?,
            feed_forward: match self.experts {
                Some(experts) if experts.in_layer(layer) => {
                    FeedForward::Experts(experts.load(loader, part, self.sizes)?)
                }
                _ => self.load_dense(loader, part)?,
            },
            norm: loader.norm(&part(norm), hidden, self.eps)?,
        })
    }

    fn load_dense(
        &self,
        loader: &mut Loader,
        part: impl Fn(&str) -> String,
    ) -> Result<FeedForward, Error> {
        let (wide, inner) = (Axis::plain(self.sizes.hidden), Axis::plain(self.sizes.intermediate));
        let ups: Vec<String> = self.names.up.iter().map(|name| part(name)).collect();
        let ups: Vec<&str> = ups.iter().map(String::as_str).collect();
        Ok(FeedForward::Dense {
            up: match self.gate {
                Some(gate) => loader.gated(&ups, gate, self.biases.up, wide, inner)?,
                None => loader.linear(&ups, self.biases.up, wide, inner)?,
            },
            down: loader.linear(&[&part(self.names.down)], self.biases.down, inner, wide)?,
        })
    }

    fn order(&self, builder: &mut Builder, batch: &PackedBatch) -> PositionTerms {
        match &self.positions {
            Positions::Rotary(rotary) => PositionTerms::Rotated(rotary.angles(builder, batch)),
            Positions::Alibi => {
                let heads = self.sizes.heads;
                let slopes = alibi_slopes(heads);
                let bias =
                    |head: usize, distance: i64| (-slopes[head] * distance.abs() as f64) as f32;
                PositionTerms::Distance(distance_bias(builder, heads, batch.longest(), bias))
            }
        }
    }
}

impl Transformer for RotaryEncoder {
    fn facts(&self) -> Facts {
        let EncoderSizes { hidden, intermediate, .. } = self.sizes;
        let rows = self.experts.map_or(1, |experts| experts.top);
        Facts {
            hidden,
            projected_from: None,
            widest: (rows * hidden.next_multiple_of(4))
                .max(3 * self.sizes.head_axis().padded())
                .max(rows * intermediate.next_multiple_of(4)),
            table_rows: self.rows,
            type_rows: self.types,
            positions: None,
            f16: self.f16,
        }
    }

    fn describe(&self) -> String {
        let EncoderSizes { hidden, heads, intermediate, layers, activation } = self.sizes;
        let gated = if self.gate.is_some() { "gated " } else { "" };
        let positions = match &self.positions {
            Positions::Alibi => "ALiBi".to_owned(),
            Positions::Rotary(Rotary { theta, scaling, .. }) => {
                format!("rotary base {theta}, scaling {scaling:?}")
            }
        };
        let experts = match self.experts {
            Some(Experts { count, top, every }) => {
                format!(", {top} of {count} experts in every {every} layers")
            }
            None => String::new(),
        };
        let task = match &self.tasks {
            Some(LoraTasks { names, chosen: Some(task), .. }) => format!(", task {}", names[*task]),
            _ => String::new(),
        };
        format!(
            "{layers} layers, hidden {hidden}, {heads} heads, {gated}intermediate {intermediate}, \
             {positions}, {activation:?}{experts}{task}"
        )
    }

    fn set_task(&mut self, task: &str) -> Result<(), Error> {
        let Some(tasks) = &mut self.tasks else { return Err(no_tasks(task)) };
        tasks.chosen = tasks.names.iter().position(|name| name == task);
        if tasks.chosen.is_some() {
            return Ok(());
        }
        let problem = format!(
            "`{task}` is not a task of the model; its tasks are {}",
            tasks.names.join(", ")
        );
        Err(Error::option("lora_task", problem))
    }

    /// Loads embeddings and layers. The pooler and the heads are not loaded.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let hidden = self.sizes.hidden;
        let named = |name: &str| format!("{}{name}", self.prefix);
        loader.lora = self.tasks.as_ref().and_then(LoraTasks::lora);
        let words = loader.table(&named(WORDS), hidden)?;
        let types = self.types.map(|_| loader.table(&named(TYPES), hidden)).transpose()?;
        let norm = loader.norm(&named(self.names.embeddings_norm), hidden, self.eps)?;
        let layers = (0..self.sizes.layers)
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(LoadedRotaryEncoder { model: self.clone(), words, types, norm, layers }))
    }
}

impl LoadedRotaryEncoder {
    fn embed(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let (words, word_rows) = table_rows(builder, &self.words, &batch.ids);
        let mut tables = vec![words];
        let mut type_rows = vec![0; batch.ids.len()];
        if let Some(types) = &self.types {
            let (types, rows): (TensorId, _) = table_rows(builder, types, &batch.type_ids);
            tables.push(types);
            type_rows = rows;
        }
        let rows: Vec<[u32; 4]> =
            word_rows.into_iter().zip(type_rows).map(|(word, kind)| [word, kind, 0, 0]).collect();
        let x = lookup_of(builder, &rows, &tables, self.model.sizes.hidden, 1.0);
        layer_norm(builder, x, None, &self.norm)
    }

    fn attended(
        &self,
        builder: &mut Builder,
        x: Activations,
        layer: &Layer,
        order: &PositionTerms,
        texts: &[TextSpan],
    ) -> Activations {
        let none = Activation::None;
        let heads = self.model.sizes.heads;
        let attention = Attention::new(heads, self.model.sizes.head());
        let at = match &layer.projections {
            Projections::Together(linear) => {
                let epilogue = match order {
                    PositionTerms::Rotated(angles) => {
                        Epilogue::Rotated(angles.rotation(2 * heads, attention.head))
                    }
                    PositionTerms::Distance(_) => Epilogue::Plain(none, None),
                };
                let qkv = matmul_then(builder, "qkv", x, linear, epilogue);
                [0, heads, 2 * heads].map(|head| Heads { of: qkv, head })
            }
            Projections::Normed { queries, keys, values } => {
                let mut normed = |name, (linear, norm): &(Linear, Norm)| {
                    let y = matmul(builder, name, x, linear, none, None);
                    Heads { of: layer_norm(builder, y, None, norm), head: 0 }
                };
                let (queries, keys) = (normed("queries", queries), normed("keys", keys));
                let values = matmul(builder, "values", x, values, none, None);
                [queries, keys, Heads { of: values, head: 0 }]
            }
        };
        let bias = match order {
            PositionTerms::Distance(bias) => Some(*bias),
            PositionTerms::Rotated(_) => None,
        };
        attend(builder, at, texts, &attention, bias)
    }

    fn fed_forward(&self, builder: &mut Builder, x: Activations, layer: &Layer) -> Activations {
        let activation = self.model.sizes.activation;
        let (up, down) = match &layer.feed_forward {
            FeedForward::Dense { up, down } => (up, down),
            FeedForward::Experts(experts) => return experts.forward(builder, x),
        };
        let inner = match self.model.gate {
            Some(_) => matmul_then(builder, "gated", x, up, Epilogue::Gated(activation)),
            None => matmul(builder, "up", x, up, activation, None),
        };
        matmul(builder, "down", inner, down, Activation::None, None)
    }
}

impl LoadedTransformer for LoadedRotaryEncoder {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let none = Activation::None;
        let mut x = self.embed(builder, batch);
        let order = self.model.order(builder, batch);
        for (i, layer) in self.layers.iter().enumerate() {
            builder.layer(i);
            let context = self.attended(builder, x, layer, &order, &batch.texts);
            let attended = matmul(builder, "attended", context, &layer.output, none, None);
            let mut sum = layer_norm(builder, attended, Some(x), &layer.attention_norm);
            if let Some(norm) = &layer.second_norm {
                sum = layer_norm(builder, sum, Some(x), norm);
            }
            x = sum;
            let down = self.fed_forward(builder, x, layer);
            x = layer_norm(builder, down, Some(x), &layer.norm);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alibi_slopes_match_the_paper_for_any_number_of_heads() {
        assert_eq!(alibi_slopes(4), [0.25, 0.0625, 0.015625, 0.00390625]);
        let eight = alibi_slopes(8);
        assert_eq!(alibi_slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, eight[0], eight[2]]);
    }
}
