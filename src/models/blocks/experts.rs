//! Mixture-of-experts layers. A router sends each token to a few experts, and their results are summed with the
//! router's weights.
//!
//! Experts have no capacity limit and no token is dropped, so a token's result does not depend on its batch. The
//! weights are a softmax over all experts, not rescaled to a sum of 1. The router computes in f32, but reads hidden
//! states and weights in their storage types. If two experts have almost equal weights, 16-bit storage may select a
//! different expert than f32 storage does. `tests/golden/FIGURES.md` says how often that happens with random routers.

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

/// The number of experts, and the layers that have experts.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Experts {
    pub count: usize,
    /// The number of experts that compute each token.
    pub top: usize,
    /// The interval between layers with experts: layer i, counted from 0, has experts if i modulo `every` is 1.
    pub every: usize,
}

/// A layer's experts with their weights loaded.
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
    /// Reads the numbers of experts from `num_experts` and `moe_top_k`.
    pub fn read(config: &JsonFile, every: usize) -> Result<Self, Error> {
        let experts = count(config, "num_experts", MAX_EXPERTS)?;
        let top = count(config, "moe_top_k", experts)?;
        Ok(Experts { count: experts, top, every })
    }

    pub fn in_layer(self, layer: usize) -> bool {
        layer % self.every == 1
    }

    /// Loads the router and the experts. `part` returns the tensor name of a part of the layer. Each tensor of the
    /// experts consists of matrices `[intermediate, hidden]`, one for each expert. The matrices of the second tensor
    /// are applied without being transposed.
    pub fn load(
        self,
        loader: &mut Loader,
        part: impl Fn(&str) -> String,
        sizes: EncoderSizes,
    ) -> Result<LoadedExperts, Error> {
        let EncoderSizes { hidden, intermediate, activation, .. } = sizes;
        let router =
            ExpertShape { experts: 1, rows: self.count, width: hidden, untransposed: false };
        let shape = |untransposed| ExpertShape {
            experts: self.count,
            rows: intermediate,
            width: hidden,
            untransposed,
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
