//! The parts that model families share: whole encoders and decoders, and the parts of which these consist.

pub(super) mod absolute_encoder;
pub(super) mod buckets;
pub(super) mod decoder;
pub(super) mod disentangled;
pub(super) mod embeddings;
pub(super) mod experts;
pub(super) mod fields;
pub(super) mod rotary;
pub(super) mod rotary_encoder;
pub(super) mod sizes;
pub(super) mod tables;
