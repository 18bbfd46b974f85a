//! The result of a known-answer test.

use serde::Serialize;

use crate::dtype::Storage;

/// The result of a kernel's known-answer test in one variant and with one pair of storage types.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelCheck {
    /// The name of the kernel.
    pub kernel: &'static str,
    /// How the lanes (invocations) share results: `alone`, or `subgroups of N`.
    pub variant: String,
    /// True if models on this adapter run this variant.
    pub used: bool,
    /// The storage type of weights; `None` for a kernel that reads no weights.
    pub weights: Option<Storage>,
    /// The storage type of activations; `None` for a kernel whose activations are always f32.
    pub activations: Option<Storage>,
    /// The largest difference between a result and its expected value; `None` if there is no result to compare.
    pub error: Option<f64>,
    /// The largest error as a share of the tolerance of its value. The tolerance of a value is the kernel's f32
    /// tolerance plus the distance between neighbouring values of the storage type near that value.
    pub share: Option<f64>,
    /// True if the error of every value is within the tolerance.
    pub passed: bool,
    /// Any other fault: the driver's message, or an overflow flag although the values are within the range.
    pub problem: Option<String>,
}

impl KernelCheck {
    /// Returns a text that says which kernel failed, with which storage types, and how.
    pub(crate) fn describe(&self) -> String {
        let mut what = self.kernel.to_owned();
        if let Some(weights) = self.weights {
            what.push_str(&format!(" with {weights} weights"));
        }
        if let Some(activations) = self.activations {
            let word = if self.weights.is_some() { "and" } else { "with" };
            what.push_str(&format!(" {word} {activations} activations"));
        }
        match (&self.problem, self.error) {
            (Some(problem), _) => format!("{what}: {problem}"),
            (None, Some(error)) => {
                format!("{what}: the results differ from the expected values by up to {error:.1e}")
            }
            (None, None) => format!("{what}: the kernel returned no results"),
        }
    }
}
