//! Writes the conclusion of a report in a few sentences.

use crate::lab::html::number::{cosine_floor, ratio_text};
use crate::lab::report::{AdapterReport, Cell, PrecisionReport, Ratio};

/// The result of comparing a precision's speed with the first precision's speed, over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speed {
    Faster,
    Slower,
    /// The precision is faster in some pairs of rounds, and slower in others.
    Unclear,
    /// There is only one round, so the spread of the speed is unknown.
    Unknown,
}

impl Speed {
    fn of(cell: &Cell) -> Self {
        match cell.speedup {
            _ if cell.rounds_s.len() < 2 => Speed::Unknown,
            Ratio { low, .. } if low > 1.0 => Speed::Faster,
            Ratio { high, .. } if high < 1.0 => Speed::Slower,
            _ => Speed::Unclear,
        }
    }
}

/// Returns a phrase that describes the length of a cell's texts.
pub(super) fn length(cell: &Cell) -> String {
    match cell.text_tokens {
        0 => "the given texts".to_owned(),
        n => format!("texts of {n} tokens"),
    }
}

/// Returns sentences about the speed and accuracy of f16, or of the fastest precision if f16 was not timed. If another
/// precision is faster than f16, a sentence about that precision follows.
pub(super) fn verdict(adapter: &AdapterReport) -> String {
    let name = &adapter.adapter.name;
    let Some((base, others)) = adapter.precisions.split_first() else {
        return format!("On {name}, no precision was timed.");
    };
    let speed = |p: &&PrecisionReport| p.cells.last().map_or(1.0, |cell| cell.speedup.median);
    let fastest = others.iter().max_by(|a, b| speed(a).total_cmp(&speed(b)));
    let mut sentences = Vec::new();
    let f16 = others.iter().find(|precision| precision.name == "f16");
    let refused = adapter.refused.iter().find(|refused| refused.precision == "f16");
    if let (None, Some(refused)) = (f16, refused) {
        let reason = refused.reason.trim_end_matches('.');
        sentences.push(format!("On {name}, f16 was not timed: {reason}."));
    }
    let Some(first) = f16.or(fastest) else {
        sentences.push(format!("On {name}, only {} was timed.", base.name));
        return sentences.join(" ");
    };
    sentences.extend(of_precision(name, &base.name, first));
    if let Some(fastest) = fastest.filter(|p| p.name != first.name && speed(p) > speed(&first))
        && fastest.cells.last().is_some_and(|cell| Speed::of(cell) == Speed::Faster)
    {
        sentences.push(format!(
            "{} has the highest median speed: {} the speed of the first precision. The cosine of its \
             vectors with those of f32 is at least {}.",
            fastest.name,
            fastest.cells.last().map_or_else(String::new, |cell| ratio_text(cell.speedup)),
            cosine_floor(fastest.accuracy.min_cosine)
        ));
    }
    sentences.join(" ")
}

fn of_precision(adapter: &str, base: &str, precision: &PrecisionReport) -> Vec<String> {
    let name = &precision.name;
    let right = format!(
        "the cosine of its vectors with those of f32 is at least {}",
        cosine_floor(precision.accuracy.min_cosine)
    );
    let Some(cell) = precision.cells.last() else {
        return vec![format!("On {adapter}, the throughput of {name} was not measured; {right}.")];
    };
    let (ratio, texts) = (ratio_text(cell.speedup), length(cell));
    let mut sentences = vec![match Speed::of(cell) {
        Speed::Faster => {
            format!("On {adapter}, {name} is {ratio} as fast as {base} on {texts}, and {right}.")
        }
        Speed::Slower => format!(
            "On {adapter}, {name} is slower than {base} on {texts}: it is {ratio} as fast; {right}."
        ),
        Speed::Unclear => format!(
            "On {adapter}, there is no clear difference in speed between {name} and {base} on {texts}: the \
             ratio is {ratio}; {right}."
        ),
        Speed::Unknown => format!(
            "On {adapter}, {name} was {:.2}× as fast as {base} on {texts} in a single round, whose \
             spread is not known; {right}.",
            cell.speedup.median
        ),
    }];
    if precision.cells.len() > 1 {
        let all = Ratio::over(precision.cells.iter().map(|cell| cell.speedup.median).collect());
        sentences.push(format!(
            "Over the {} measured sizes of batches and texts, its median speed is between {:.2}× \
             and {:.2}× that of the first precision.",
            precision.cells.len(),
            all.low,
            all.high
        ));
    }
    sentences
}
