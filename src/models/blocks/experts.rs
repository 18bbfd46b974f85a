//! Layers whose feed-forward part is a mixture of experts: a router sends each token to a few of them,
//! and what they make of it is summed by the router's weights.
//!
//! No token is dropped and no expert is ever full, so a token's result does not depend on its batch.
//! The weights are those of a softmax over all experts and are not scaled to a sum of 1. The choice is
//! made in f32, of hidden states and a router as they are stored: where two experts are close to a tie,
//! 16-bit storage may choose the other. `tests/golden/FIGURES.md` says how often random routers do.

use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::combine::combine;
use crate::kernels::group_rows::group_rows;
use crate::kernels::matmul::{ExpertLinear, matmul_experts};
use crate::kernels::route::{MAX_EXPERTS, route};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::fields::count;
use crate::models::blocks::sizes::EncoderSizes;
use crate::weights::{ExpertShape, Loader};

/// Which layers have experts, and how many.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Experts {
    pub count: usize,
    /// Experts of a token.
    pub top: usize,
    /// Layer i, counted from 0, has them where i % every is 1.
    pub every: usize,
}

/// The weights of a layer's experts.
#[derive(Debug)]
pub(in crate::models) struct LoadedExperts {
    top: usize,
    activation: Activation,
    router: ExpertLinear,
    up: ExpertLinear,
    down: ExpertLinear,
    bias: usize,
}

impl Experts {
    /// Reads how many there are, from `num_experts` and `moe_top_k`.
    pub fn read(config: &JsonFile, every: usize) -> Result<Self, Error> {
        let experts = count(config, "num_experts", MAX_EXPERTS)?;
        let top = count(config, "moe_top_k", experts)?;
        Ok(Experts { count: experts, top, every })
    }

    pub fn in_layer(self, layer: usize) -> bool {
        layer % self.every == 1
    }

    /// Loads them from the tensors that `part` names: the router and, of all experts one after the other,
    /// matrices `[intermediate, hidden]` of which the second is applied as it lies.
    pub fn load(
        self,
        loader: &mut Loader,
        part: impl Fn(&str) -> String,
        sizes: EncoderSizes,
    ) -> Result<LoadedExperts, Error> {
        let EncoderSizes { hidden, intermediate, activation, .. } = sizes;
        let router = ExpertShape { experts: 1, rows: self.count, width: hidden, flipped: false };
        let shape = |flipped| ExpertShape {
            experts: self.count,
            rows: intermediate,
            width: hidden,
            flipped,
        };
        Ok(LoadedExperts {
            top: self.top,
            activation,
            router: loader.experts(&part("mlp.router.layer.weight"), router)?,
            up: loader.experts(&part("mlp.experts.mlp.w1"), shape(false))?,
            down: loader.experts(&part("mlp.experts.mlp.w2"), shape(true))?,
            bias: loader.bias(&part("mlp.experts.bias"), hidden)?,
        })
    }
}

impl LoadedExperts {
    pub fn forward(&self, builder: &mut Builder, x: Activations) -> Activations {
        let choices = route(builder, x, &self.router, self.top);
        let grouped = group_rows(builder, &choices);
        let up = matmul_experts(builder, "up", x, &self.up, self.activation, &grouped);
        let down = matmul_experts(builder, "down", up, &self.down, Activation::None, &grouped);
        let bias = builder.weight("bias", self.bias);
        combine(builder, down, &choices, bias)
    }
}
