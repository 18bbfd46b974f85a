//! The assembly of AMD's GPUs, as RADV prints it.

use std::collections::{BTreeSet, HashMap};

use super::{Code, Unit};

/// Parses assembly in which a line `BB4:` begins a block, and each other line with a comment is an instruction.
pub fn parse(text: &str) -> Code {
    let mut labels = HashMap::new();
    let mut instructions: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with("BB")) {
            labels.insert(label, instructions.len());
        } else if line.starts_with(char::is_whitespace)
            && let Some((code, _)) = line.split_once(';')
        {
            let code = code.trim();
            let (name, operands) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !name.is_empty() && name.chars().all(is_name) {
                instructions.push((name, operands.trim()));
            }
        }
    }
    let backward = |(at, (name, operands)): (usize, &(&str, &str))| {
        let target = operands.split_whitespace().next()?;
        let start = *labels.get(target).filter(|_| name.contains("branch"))?;
        (start <= at).then(|| (start..=at).collect::<BTreeSet<usize>>())
    };
    Code {
        loops: instructions.iter().enumerate().filter_map(backward).collect(),
        units: instructions.iter().map(|(name, _)| unit(name)).collect(),
    }
}

fn unit(name: &str) -> Unit {
    let starts = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
    match name {
        _ if name.contains("wmma") => Unit::Matrix,
        _ if starts(&[
            "v_dual_fmac",
            "v_fma_f32",
            "v_fmac_f32",
            "v_fmac_dx9",
            "v_mac_f32",
            "v_mad_f32",
            "v_pk_fma",
            "v_fma_mix_f32",
            "v_mad_mix_f32",
        ]) =>
        {
            Unit::Fma
        }
        _ if starts(&["ds_load", "ds_read"]) => Unit::WorkgroupLoad,
        _ if starts(&["ds_"]) => Unit::WorkgroupStore,
        _ if starts(&["global_", "buffer_", "flat_", "scratch_"]) => Unit::Global,
        _ if name.contains("branch") => Unit::Branch,
        _ if starts(&["s_waitcnt", "s_wait_"]) => Unit::Wait,
        _ if name.contains("barrier") => Unit::Barrier,
        _ if starts(&["s_delay", "s_nop", "s_clause"]) => Unit::Hint,
        _ if starts(&["v_"]) => Unit::Vector,
        _ => Unit::Scalar,
    }
}
