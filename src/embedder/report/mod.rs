//! Makes reports about a loaded model, for `vectile inspect`, for measurements of the module `lab`, and for the server.

#[cfg(feature = "lab")]
pub(crate) mod activation_ranges;
#[cfg(feature = "lab")]
pub(crate) mod activation_trace;
pub(super) mod inspect;
#[cfg(feature = "lab")]
mod profile;
#[cfg(feature = "server")]
mod self_check;
#[cfg(feature = "server")]
mod served;
mod token_embeddings;
