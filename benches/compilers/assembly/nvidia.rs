//! The assembly of NVIDIA's GPUs, as NVK prints it.

use std::collections::{BTreeSet, HashMap};

use super::{Code, Unit};

/// A run of instructions that only its end leaves.
#[derive(Default)]
struct Block {
    /// The numbers of the block's instructions.
    instructions: std::ops::Range<usize>,
    /// The labels that the block's branches name.
    targets: Vec<String>,
    /// True if the next block can follow.
    falls: bool,
}

/// Parses assembly in which a line `block 4 L4` begins a block. An instruction is `@PREDICATE OUTPUTS = NAME INPUTS`,
/// with a comment about its delay.
pub fn parse(text: &str) -> Code {
    let text = text.replace('\0', "");
    let mut blocks: Vec<Block> = Vec::new();
    let mut labels: HashMap<String, usize> = HashMap::new();
    let mut units = Vec::new();
    for line in text.lines() {
        if line.starts_with("block") {
            let label = line.split_whitespace().find(|word| is_label(word));
            if let Some(label) = label {
                labels.insert(label.to_owned(), blocks.len());
                let instructions = units.len()..units.len();
                blocks.push(Block { instructions, falls: true, ..Block::default() });
            }
            continue;
        }
        let (Some((code, _)), Some(block)) =
            (line.split_once("//").filter(|(_, note)| note.contains("delay")), blocks.last_mut())
        else {
            continue;
        };
        let mut code = code.trim();
        let predicated = code.starts_with('@');
        if predicated {
            code = code.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
        }
        let code = code.split_once('=').map_or(code, |(_, code)| code).trim();
        let Some(name) = code.split_whitespace().next() else { continue };
        units.push(unit(name));
        block.instructions.end = units.len();
        if name.starts_with("bra") {
            block.targets.extend(label_in(code));
            // `pT` is the predicate that is always true, and `up` is a uniform predicate.
            let operands = code.split('L').next().unwrap_or_default();
            if !predicated && code.contains(" pT") && !operands.replace(" pT", "").contains("up") {
                block.falls = false;
            }
        } else if name.starts_with("exit") && !predicated {
            block.falls = false;
        }
    }
    let loops = loops(&blocks, &labels);
    Code { units, loops }
}

fn is_label(word: &str) -> bool {
    word.strip_prefix('L').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

/// The last label in an instruction.
fn label_in(code: &str) -> Option<String> {
    let mut words = code.split(|c: char| !c.is_ascii_alphanumeric());
    words.rfind(|word| is_label(word)).map(str::to_owned)
}

/// The natural loop of every branch to an earlier block.
fn loops(blocks: &[Block], labels: &HashMap<String, usize>) -> Vec<BTreeSet<usize>> {
    let mut before = vec![BTreeSet::new(); blocks.len()];
    let mut backward = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let targets = block.targets.iter().filter_map(|label| labels.get(label).copied());
        let next = (block.falls && at + 1 < blocks.len()).then_some(at + 1);
        for to in targets.chain(next) {
            before[to].insert(at);
            if to <= at {
                backward.push((to, at));
            }
        }
    }
    let instructions = |(head, last): (usize, usize)| {
        let mut body = BTreeSet::from([head, last]);
        let mut open = vec![last];
        while let Some(block) = open.pop() {
            if block != head {
                open.extend(before[block].iter().filter(|one| body.insert(**one)));
            }
        }
        body.iter().flat_map(|block| blocks[*block].instructions.clone()).collect()
    };
    backward.into_iter().map(instructions).collect()
}

fn unit(name: &str) -> Unit {
    let starts = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
    match name {
        _ if starts(&["hmma", "imma"]) => Unit::Matrix,
        _ if starts(&["ffma", "hfma"]) => Unit::Fma,
        _ if starts(&["lds", "ld.shared"]) => Unit::WorkgroupLoad,
        _ if starts(&["sts", "st.shared"]) => Unit::WorkgroupStore,
        _ if starts(&["ldg", "ld.", "stg", "st.", "ldl", "stl", "atom", "red."]) => Unit::Global,
        _ if starts(&["bra", "bssy", "bsync", "brk", "exit", "warpsync"]) => Unit::Branch,
        _ if starts(&["bar", "membar"]) => Unit::Barrier,
        _ if starts(&["nop"]) => Unit::Hint,
        // Constants and uniform registers belong to the scalar unit.
        _ if starts(&["ldc", "u", "r2ur", "s2ur"]) => Unit::Scalar,
        _ => Unit::Vector,
    }
}
