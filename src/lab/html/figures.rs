//! Makes the figures for one adapter from the data of a report.

use maud::{Markup, html};

use crate::lab::html::number::{bytes_text, ratio_text, text};
use crate::lab::html::plots::{Bars, COLORS, Group, Point, bars, dots, figure, speed_accuracy};
use crate::lab::html::verdict::length;
use crate::lab::report::{AdapterReport, Cell, GpuTime, PrecisionReport, Ratio};

/// Returns all plots of one adapter's results.
pub(super) fn plots(adapter: &AdapterReport) -> Result<Markup, String> {
    let precisions = &adapter.precisions;
    let mut figures = vec![accuracy(precisions)?];
    figures.extend(throughput(precisions)?);
    figures.push(kernels(adapter)?);
    figures.push(memory(precisions)?);
    figures.push(cold(precisions)?);
    Ok(html! { div.plots { @for figure in &figures { (figure) } } })
}

fn in_words(what: &str, parts: impl Iterator<Item = String>) -> String {
    format!("{what}: {}", parts.collect::<Vec<_>>().join("; "))
}

fn accuracy(precisions: &[PrecisionReport]) -> Result<Markup, String> {
    let points: Vec<Point> = precisions
        .iter()
        .filter_map(|precision| {
            precision.cells.last().map(|cell| Point {
                name: precision.name.clone(),
                speed: cell.speedup,
                min_cosine: precision.accuracy.min_cosine,
            })
        })
        .collect();
    let label = in_words(
        "Speed against accuracy",
        points.iter().map(|point| {
            format!(
                "{}: speed {}, smallest cosine {:.9}",
                point.name,
                ratio_text(point.speed),
                point.min_cosine
            )
        }),
    );
    let of = precisions.iter().find_map(|precision| precision.cells.last());
    let note = of.map_or_else(String::new, |cell| {
        format!(
            "The vertical axis shows 1 − the smallest cosine. Points further right are faster, \
             and lower points are closer to f32. Measured with {}, and at most {} tokens per \
             batch. Each line shows how far the speed varied between rounds: from the smallest \
             ratio of two rounds to the largest.",
            length(cell),
            cell.batch_tokens
        )
    });
    Ok(figure("Speed against accuracy", &label, &speed_accuracy(&points)?, &[], &note))
}

/// Returns the rate in tokens per second: its median, minimum and maximum over the rounds.
fn rates(cell: &Cell) -> Ratio {
    let rates =
        cell.rounds_s.iter().map(|seconds| cell.tokens as f64 / seconds).collect::<Vec<_>>();
    match rates.is_empty() {
        true => {
            Ratio { median: cell.tokens_per_s, low: cell.tokens_per_s, high: cell.tokens_per_s }
        }
        false => Ratio { median: cell.tokens_per_s, ..Ratio::over(rates) },
    }
}

/// Returns one plot of the throughput for each token budget of a batch. All plots have the same scale.
fn throughput(precisions: &[PrecisionReport]) -> Result<Vec<Markup>, String> {
    let names: Vec<String> = precisions.iter().map(|precision| precision.name.clone()).collect();
    let all = precisions.iter().flat_map(|precision| &precision.cells);
    let most = all.clone().map(|cell| rates(cell).high).fold(0.0, f64::max);
    let mut batches: Vec<usize> = Vec::new();
    let mut lengths: Vec<usize> = Vec::new();
    for cell in all {
        if !batches.contains(&cell.batch_tokens) {
            batches.push(cell.batch_tokens);
        }
        if !lengths.contains(&cell.text_tokens) {
            lengths.push(cell.text_tokens);
        }
    }
    let plot = |batch: usize| {
        let groups: Vec<Group> = lengths
            .iter()
            .filter(|tokens| {
                let all = &mut precisions.iter().flat_map(|precision| &precision.cells);
                all.any(|cell| cell.batch_tokens == batch && cell.text_tokens == **tokens)
            })
            .map(|tokens| Group {
                name: if *tokens == 0 { "as given".to_owned() } else { tokens.to_string() },
                dots: precisions
                    .iter()
                    .enumerate()
                    .filter_map(|(series, precision)| {
                        let cells = &mut precision.cells.iter();
                        let cell =
                            cells.find(|c| c.batch_tokens == batch && c.text_tokens == *tokens);
                        cell.map(|cell| (series, rates(cell)))
                    })
                    .collect(),
            })
            .collect();
        let title = format!("Throughput with at most {batch} tokens per batch");
        let label = in_words(
            &format!("{title}, in tokens per second"),
            groups.iter().flat_map(|group| {
                let names = &names;
                group.dots.iter().map(move |(series, rate)| {
                    format!("length {} {} {}", group.name, names[*series], text(rate.median))
                })
            }),
        );
        let note = "Tokens per second (vertical) against the length of texts in tokens (horizontal). Lines \
                    span the slowest and the fastest round.";
        let svg = dots(&groups, precisions.len(), most)?;
        Ok(figure(&title, &label, &svg, &names, note))
    };
    batches.into_iter().map(plot).collect()
}

/// Returns the names of the kernels, sorted by their total time over all precisions, the longest first. If there are
/// too many kernels, the last name stands for all other kernels.
fn longest(times: &[&GpuTime]) -> Vec<String> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for kernel in times.iter().flat_map(|gpu| &gpu.kernels) {
        match sums.iter_mut().find(|(name, _)| *name == kernel.name) {
            Some((_, sum)) => *sum += kernel.ms,
            None => sums.push((kernel.name.clone(), kernel.ms)),
        }
    }
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut names: Vec<String> = sums.into_iter().map(|(name, _)| name).collect();
    if names.len() > COLORS {
        names.truncate(COLORS - 1);
        names.push("other kernels".to_owned());
    }
    names
}

fn kernels(adapter: &AdapterReport) -> Result<Markup, String> {
    let title = "GPU time by kernel";
    let times: Vec<&GpuTime> = adapter.precisions.iter().filter_map(|p| p.gpu.as_ref()).collect();
    if times.is_empty() {
        let why = match adapter.timestamps {
            true => "GPU time was not measured in this run.",
            false => "GPU time was not measured: this adapter has no timestamps.",
        };
        return Ok(html! { figure { h4 { (title) } p { (why) } } });
    }
    let names = longest(&times);
    let rows: Vec<Bars> = adapter
        .precisions
        .iter()
        .map(|precision| {
            let kernels = precision.gpu.iter().flat_map(|gpu| &gpu.kernels);
            let mut stack: Vec<(usize, f64)> =
                (0..names.len()).map(|series| (series, 0.0)).collect();
            for kernel in kernels {
                let own =
                    names.iter().position(|name| *name == kernel.name).unwrap_or(names.len() - 1);
                stack[own].1 += kernel.ms;
            }
            let sum = stack.iter().map(|(_, ms)| ms).sum();
            let end = precision
                .gpu
                .as_ref()
                .map_or("not measured".to_owned(), |_| format!("{} ms", text(sum)));
            Bars { name: precision.name.clone(), stack, below: None, end }
        })
        .collect();
    let label = in_words(
        "Sum of GPU time of all kernels",
        rows.iter().map(|r| format!("{} {}", r.name, r.end)),
    );
    let tokens =
        adapter.precisions.iter().map(|precision| precision.host.tokens).max().unwrap_or(0);
    let note = format!("The times are those of a run of {tokens} tokens, the last size measured.");
    Ok(figure(title, &label, &bars(&rows, "ms")?, &names, &note))
}

fn memory(precisions: &[PrecisionReport]) -> Result<Markup, String> {
    const MIB: f64 = 1024.0 * 1024.0;
    let rows: Vec<Bars> = precisions
        .iter()
        .map(|precision| {
            let (weights, peak) = (precision.weight_bytes, precision.peak_activation_bytes);
            let stack = vec![(0, weights as f64 / MIB), (1, peak as f64 / MIB)];
            let end = bytes_text(weights.saturating_add(peak));
            Bars { name: precision.name.clone(), stack, below: None, end }
        })
        .collect();
    let label =
        in_words("Memory on the adapter", rows.iter().map(|r| format!("{} {}", r.name, r.end)));
    let legend = ["weights".to_owned(), "activations at their peak".to_owned()];
    Ok(figure("Memory", &label, &bars(&rows, "MiB")?, &legend, ""))
}

fn cold(precisions: &[PrecisionReport]) -> Result<Markup, String> {
    let rows: Vec<Bars> = precisions
        .iter()
        .map(|precision| {
            let cold = &precision.cold;
            let sum = cold.load_s + cold.pipelines_s + cold.first_batch_s;
            Bars {
                name: precision.name.clone(),
                stack: vec![(0, cold.load_s), (1, cold.pipelines_s), (2, cold.first_batch_s)],
                below: Some((3, cold.warm_batch_s)),
                end: format!("{} s", text(sum)),
            }
        })
        .collect();
    let label = in_words(
        "Seconds from the start to the first vectors",
        rows.iter().zip(precisions).map(|(row, precision)| {
            format!(
                "{}: {} to the first vectors, {} s for a second run of the same batch",
                row.name,
                row.end,
                text(precision.cold.warm_batch_s)
            )
        }),
    );
    let legend =
        ["load", "pipelines", "first batch", "second run of the same batch"].map(str::to_owned);
    Ok(figure("Cold start", &label, &bars(&rows, "s")?, &legend, ""))
}
