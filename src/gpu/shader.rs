//! Resolves the imports of WGSL sources. A source is valid WGSL except for its `#import` lines.
//!
//! | line | inserts |
//! |---|---|
//! | `#import storage as weight` | the file for the storage type of weights, with `role_` replaced by `weight_` |
//! | `#import storage as act` | the file for the storage type of activations, with `role_` replaced by `act_` |
//! | `#import reduce`, `#import share` | the file for subgroups, or the file for lanes without subgroups |
//! | `#import coop` | the file for cooperative matrices of the size `SIDE` |
//! | `#import elements` | the file for cells of `ELEMENTS` elements in workgroup memory |
//! | `#import NAME` | `shaders/shared/NAME.wgsl` |
//!
//! The sources have no conditionals. A line `const NAME: u32 = …;` is rewritten if the variant has a value for NAME. An
//! `override` cannot replace these lines, since the size of a register array must be a constant of the WGSL source.
//! Loops with an `// unrolled` directive are unrolled: see `unroll.rs`. `shaders/README.md` has the rules for authors
//! of shaders.

use sha2::{Digest, Sha256};

use super::unroll::unroll;
use crate::dtype::Storage;

/// How the lanes (invocations) of a kernel share intermediate results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// Lanes share results through workgroup memory and barriers. In some kernels, lanes share no results.
    Alone,
    /// Lanes share results by subgroup operations. The field is the minimum size of a subgroup.
    Subgroup(u32),
}

/// Everything that determines a kernel's WGSL: the precision, the adapter and the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShaderVariant {
    /// The storage type of matrices and tables.
    pub weights: Storage,
    /// The storage type of activations.
    pub activations: Storage,
    /// How lanes (invocations) share intermediate results.
    pub lanes: Lanes,
    /// The values of the `const` lines in the WGSL source.
    pub constants: Vec<(&'static str, u32)>,
    /// The values of the `override`s in the WGSL source, which are set when the pipeline is made.
    pub overrides: Vec<(&'static str, u32)>,
}

impl ShaderVariant {
    /// Returns a variant without constants and overrides.
    pub fn new(weights: Storage, activations: Storage, lanes: Lanes) -> Self {
        ShaderVariant { weights, activations, lanes, constants: vec![], overrides: vec![] }
    }

    /// Sets the value of a `const` line.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// Returns the value of a `const` line, or `otherwise` if the variant does not set it.
    pub(crate) fn constant_or(&self, name: &str, otherwise: u32) -> u32 {
        let given = self.constants.iter().find(|(known, _)| *known == name);
        given.map_or(otherwise, |(_, value)| *value)
    }

    /// Sets the value of an `override`.
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        self.overrides.push((name, value));
        self
    }
}

const SHARED: &[(&str, &str)] = &[
    ("storage_f32", include_str!("../../shaders/shared/storage_f32.wgsl")),
    ("storage_f16", include_str!("../../shaders/shared/storage_f16.wgsl")),
    ("storage_packed_f16", include_str!("../../shaders/shared/storage_packed_f16.wgsl")),
    ("storage_packed_bf16", include_str!("../../shaders/shared/storage_packed_bf16.wgsl")),
    ("store", include_str!("../../shaders/shared/store.wgsl")),
    ("report", include_str!("../../shaders/shared/report.wgsl")),
    ("report_plain", include_str!("../../shaders/shared/report_plain.wgsl")),
    ("activation", include_str!("../../shaders/shared/activation.wgsl")),
    ("attention", include_str!("../../shaders/shared/attention.wgsl")),
    ("rotate", include_str!("../../shaders/shared/rotate.wgsl")),
    ("linear", include_str!("../../shaders/shared/linear.wgsl")),
    ("reduce_subgroup", include_str!("../../shaders/shared/reduce_subgroup.wgsl")),
    ("reduce_workgroup", include_str!("../../shaders/shared/reduce_workgroup.wgsl")),
    ("share_subgroup", include_str!("../../shaders/shared/share_subgroup.wgsl")),
    ("share_none", include_str!("../../shaders/shared/share_none.wgsl")),
    ("coop_8", include_str!("../../shaders/shared/coop_8.wgsl")),
    ("coop_16", include_str!("../../shaders/shared/coop_16.wgsl")),
    ("elements_1", include_str!("../../shaders/shared/elements_1.wgsl")),
    ("elements_4", include_str!("../../shaders/shared/elements_4.wgsl")),
];

fn shared(name: &str) -> Result<&'static str, String> {
    SHARED
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, source)| *source)
        .ok_or_else(|| format!("there is no shader file `shared/{name}.wgsl`"))
}

/// Returns a digest of the kernels' sources and of every file that they can import.
pub(crate) fn digest(sources: &[&str]) -> String {
    let mut digest = Sha256::new();
    for text in SHARED.iter().map(|(_, text)| *text).chain(sources.iter().copied()) {
        digest.update(text);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The line that browsers require before subgroup operations. naga accepts the operations without this line, and
/// refuses a source that contains it.
const ENABLE_SUBGROUPS: &str = "enable subgroups;";

/// Returns the complete WGSL of a source for naga, with the imports of a variant and with `enable` lines first.
///
/// # Errors
/// Returns a sentence that names an import without a file, or a loop that cannot be unrolled.
pub fn resolve_imports(source: &str, variant: &ShaderVariant) -> Result<String, String> {
    Ok(resolve(source, variant)?.text)
}

/// Returns the complete WGSL of a source for the compiler of a browser. This text differs from the result of
/// [`resolve_imports`] in the line `enable subgroups;`, which browsers require.
///
/// # Errors
/// Returns the errors of [`resolve_imports`].
pub fn resolve_for_browser(source: &str, variant: &ShaderVariant) -> Result<String, String> {
    let Resolved { text, subgroups } = resolve(source, variant)?;
    Ok(if subgroups { format!("{ENABLE_SUBGROUPS}\n{text}") } else { text })
}

/// A WGSL source whose imports are resolved.
struct Resolved {
    /// The complete WGSL for naga.
    text: String,
    /// True if the source or an imported file has the line [`ENABLE_SUBGROUPS`], which is left out of `text`.
    subgroups: bool,
}

fn resolve(source: &str, variant: &ShaderVariant) -> Result<Resolved, String> {
    let mut enables: Vec<&str> = Vec::new();
    let mut subgroups = false;
    let mut body = String::new();
    for line in source.lines() {
        let Some(import) = line.strip_prefix("#import ") else {
            body.push_str(line);
            body.push('\n');
            continue;
        };
        let mut words = import.split_whitespace();
        let name = words.next().unwrap_or_default();
        let role = words.nth(1);
        let subgroup = variant.lanes != Lanes::Alone;
        let text = match (name, role) {
            ("storage", Some("weight")) => shared(&format!("storage_{}", variant.weights.name()))?,
            ("storage", Some("act")) => shared(&format!("storage_{}", variant.activations.name()))?,
            ("reduce", None) => {
                shared(if subgroup { "reduce_subgroup" } else { "reduce_workgroup" })?
            }
            ("share", None) => shared(if subgroup { "share_subgroup" } else { "share_none" })?,
            ("coop", None) => shared(&format!("coop_{}", variant.constant_or("SIDE", 8)))?,
            ("elements", None) => {
                shared(&format!("elements_{}", variant.constant_or("ELEMENTS", 1)))?
            }
            (name, None) => shared(name)?,
            (name, Some(role)) => {
                return Err(format!("a shader cannot import `{name}` as `{role}`"));
            }
        };
        for line in text.lines() {
            if line == ENABLE_SUBGROUPS {
                subgroups = true;
            } else if line.starts_with("enable ") {
                if !enables.contains(&line) {
                    enables.push(line);
                }
            } else {
                body.push_str(&match role {
                    Some(role) => line.replace("role_", &format!("{role}_")),
                    None => line.to_owned(),
                });
                body.push('\n');
            }
        }
    }
    let mut text: String = enables.iter().flat_map(|line| [*line, "\n"]).collect();
    text.push_str(&body);
    for (name, value) in constants_of(variant) {
        text = set_constant(&text, name, value);
    }
    Ok(Resolved { text: unroll(&text)?, subgroups })
}

/// Returns the variant's constants, and also the constant SHARE if the variant uses subgroups.
fn constants_of(variant: &ShaderVariant) -> Vec<(&'static str, u32)> {
    let mut constants = variant.constants.clone();
    if let Lanes::Subgroup(size) = variant.lanes {
        constants.push(("SHARE", size.min(16)));
    }
    constants
}

fn set_constant(text: &str, name: &str, value: u32) -> String {
    let head = format!("const {name}: u32 = ");
    let lines = text.lines().map(|line| {
        if line.starts_with(&head) { format!("{head}{value}u;\n") } else { format!("{line}\n") }
    });
    lines.collect()
}
