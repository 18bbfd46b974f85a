//! Compares the reports of several runs, such as runs on several machines, or runs of several commits on one machine.
//!
//! Measurements are matched by adapter, precision, token budget and length of text. Adapters are matched by name and
//! backend. Adapters without a match are paired in the order in which the reports list them, so that machines with
//! different GPUs can be compared. Rounds of different runs happen at different times, so no round of one run belongs
//! to a round of another run. The spread of a ratio therefore covers all pairs of a round of one run and a round of the
//! other run. A difference within this spread is not significant.

use serde::Serialize;

use crate::lab::report::{AdapterReport, Cell, PrecisionReport, Ratio, Report};

/// The measurements of several reports, side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The names of the runs, one column each. Ratios are relative to the first run.
    pub runs: Vec<String>,
    /// The reasons why the figures may not be comparable, one sentence each.
    pub warnings: Vec<String>,
    /// The facts about program, machine and model that differ between the runs.
    pub differences: Vec<Difference>,
    /// The measurements that at least two of the runs contain.
    pub rows: Vec<Row>,
}

/// A fact that differs between the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The name of the fact, such as `driver`.
    pub what: String,
    /// The fact's value in each run.
    pub values: Vec<String>,
}

/// One measurement, with its value in each run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The name of the adapter in the first run.
    pub adapter: String,
    /// The precision, as in [`PrecisionReport::name`].
    pub precision: String,
    /// The name of the measurement, with its unit.
    pub what: String,
    /// The value in each run; `None` if the run did not make this measurement.
    pub values: Vec<Option<Value>>,
}

/// The value of a measurement in one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Value {
    /// The median of the rounds, or the value itself for a measurement without rounds.
    pub value: f64,
    /// The ratio between the values of this run and the first run; `None` for the first run itself and for measurements
    /// of accuracy. A ratio above 1 means that this run is better: faster, or with a smaller value.
    pub ratio: Option<Ratio>,
    /// True if the value differs from the first run by more than the spread of the rounds; `None` if there is no
    /// spread.
    pub beyond_spread: Option<bool>,
}

impl Comparison {
    /// Returns the comparison of these reports, each of which has a name.
    ///
    /// Reports of different models are compared too, with a warning. Two checkpoints of a model with different dtypes
    /// count as different models, because their weights differ.
    ///
    /// # Errors
    /// Returns a message if there are fewer than two reports, or if no measurement occurs in two reports.
    pub fn of(reports: &[(String, Report)]) -> Result<Self, String> {
        if reports.len() < 2 {
            return Err("a comparison needs at least two reports".to_owned());
        }
        let rows = rows(reports);
        if rows.is_empty() {
            return Err(
                "the reports have no precision and size in common; run the bench with the same \
                 --precisions, --batch-tokens and --lengths"
                    .to_owned(),
            );
        }
        let named = |(name, report): &(String, Report)| match &report.label {
            Some(label) => format!("{label} ({name})"),
            None => name.clone(),
        };
        Ok(Comparison {
            runs: reports.iter().map(named).collect(),
            warnings: warnings(reports),
            differences: differences(reports),
            rows,
        })
    }
}

fn warnings(reports: &[(String, Report)]) -> Vec<String> {
    let (first_name, first) = &reports[0];
    let mut warnings = Vec::new();
    for (name, report) in reports {
        if report.host.debug_build {
            warnings.push(format!(
                "{name} is from a debug build, so its times on the host are not meaningful"
            ));
        }
    }
    for (name, report) in &reports[1..] {
        if report.model.sha256 != first.model.sha256 {
            warnings.push(format!(
                "{name} and {first_name} measured different models ({} and {}), so neither speeds nor \
                 accuracies are comparable",
                report.model.name, first.model.name
            ));
        }
        if report.settings.texts != first.settings.texts {
            warnings.push(format!(
                "{name} and {first_name} measured different texts, so accuracies are not comparable"
            ));
        }
        if (&report.date, &report.host) == (&first.date, &first.host) {
            warnings.push(format!(
                "{name} and {first_name} are reports of the same run, so a comparison shows nothing"
            ));
        }
    }
    warnings
}

/// Returns the facts that differ between the runs.
fn differences(reports: &[(String, Report)]) -> Vec<Difference> {
    type Fact = fn(&Report) -> String;
    let adapters = |part: fn(&AdapterReport) -> String| {
        move |report: &Report| report.adapters.iter().map(part).collect::<Vec<_>>().join("; ")
    };
    let facts: [(&str, Fact); 7] = [
        ("vectile", |r| r.vectile.clone()),
        ("date", |r| r.date.clone()),
        ("model", |r| r.model.name.clone()),
        ("SHA-256 of the weights", |r| r.model.sha256.clone()),
        ("rounds", |r| r.settings.rounds.to_string()),
        ("texts", |r| r.settings.texts.clone()),
        ("machine", |r| {
            let cpu = r.host.cpu.clone().unwrap_or_default();
            format!("{} {}, {} threads {cpu}", r.host.os, r.host.arch, r.host.threads)
        }),
    ];
    let mut found: Vec<Difference> =
        facts.iter().filter_map(|(what, fact)| difference(what, reports, fact)).collect();
    let summary = adapters(|a| format!("{} ({})", a.adapter.name, a.adapter.backend));
    found.extend(difference("adapters", reports, summary));
    let driver = adapters(|a| format!("{} {}", a.adapter.driver, a.adapter.driver_info));
    found.extend(difference("driver", reports, driver));
    let disabled = adapters(|a| a.disabled.join(", "));
    found.extend(difference("disabled", reports, disabled));
    found
}

fn difference(
    what: &str,
    reports: &[(String, Report)],
    fact: impl Fn(&Report) -> String,
) -> Option<Difference> {
    let values: Vec<String> = reports.iter().map(|(_, report)| fact(report)).collect();
    let same = values.iter().all(|value| *value == values[0]);
    (!same).then(|| Difference { what: what.to_owned(), values })
}

/// Returns, for each adapter of the first report, the matching adapter of every report. The match is the adapter with
/// the same name and backend, or else the next adapter without a match.
fn matched(reports: &[(String, Report)]) -> Vec<Vec<Option<&AdapterReport>>> {
    let key = |a: &AdapterReport| (a.adapter.name.clone(), a.adapter.backend.clone());
    let first = &reports[0].1.adapters;
    let mut rows: Vec<Vec<Option<&AdapterReport>>> = first.iter().map(|a| vec![Some(a)]).collect();
    for (_, report) in &reports[1..] {
        let mut left: Vec<&AdapterReport> = report.adapters.iter().collect();
        let mut own: Vec<Option<&AdapterReport>> = first
            .iter()
            .map(|wanted| {
                let at = left.iter().position(|a| key(a) == key(wanted))?;
                Some(left.remove(at))
            })
            .collect();
        for place in own.iter_mut().filter(|place| place.is_none()) {
            if !left.is_empty() {
                *place = Some(left.remove(0));
            }
        }
        for (row, own) in rows.iter_mut().zip(own) {
            row.push(own);
        }
    }
    rows
}

fn rows(reports: &[(String, Report)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for adapters in matched(reports) {
        let Some(first) = adapters[0] else { continue };
        for base in &first.precisions {
            let like = |adapter: &Option<&'_ AdapterReport>| -> Option<PrecisionReport> {
                adapter.as_ref()?.precisions.iter().find(|p| p.name == base.name).cloned()
            };
            let found: Vec<Option<PrecisionReport>> = adapters.iter().map(like).collect();
            for (what, values) in measurements(base, &found) {
                // A value that only one of the reports contains cannot be compared.
                if values.iter().flatten().count() > 1 {
                    let (adapter, precision) = (first.adapter.name.clone(), base.name.clone());
                    rows.push(Row { adapter, precision, what, values });
                }
            }
        }
    }
    rows
}

/// Returns the measurements of a precision, each with its name, its unit and the value in each run.
fn measurements(
    base: &PrecisionReport,
    found: &[Option<PrecisionReport>],
) -> Vec<(String, Vec<Option<Value>>)> {
    let mut all = Vec::new();
    for cell in &base.cells {
        let texts = match cell.text_tokens {
            0 => "the given texts".to_owned(),
            tokens => format!("texts of {tokens} tokens"),
        };
        let own = |report: &Option<PrecisionReport>| -> Option<Vec<f64>> {
            let like = |c: &&Cell| {
                (c.batch_tokens, c.text_tokens) == (cell.batch_tokens, cell.text_tokens)
            };
            let cell = report.as_ref()?.cells.iter().find(like)?;
            Some(cell.rounds_s.iter().map(|seconds| cell.tokens as f64 / seconds).collect())
        };
        let rates: Vec<Option<Vec<f64>>> = found.iter().map(own).collect();
        let what =
            format!("tokens/s on {texts}, in batches of at most {} tokens", cell.batch_tokens);
        all.push((what, rates.iter().map(|own| throughput(&rates[0], own)).collect()));
    }
    let mut single =
        |what: &str, smaller_is_better: bool, of: fn(&PrecisionReport) -> Option<f64>| {
            let values: Vec<Option<f64>> =
                found.iter().map(|report| report.as_ref().and_then(of)).collect();
            let value = |(run, own): (usize, &Option<f64>)| {
                let ratio = match (values[0], own) {
                    (Some(base), Some(own)) if run > 0 && smaller_is_better && *own > 0.0 => {
                        let ratio = base / own;
                        Some(Ratio { median: ratio, low: ratio, high: ratio })
                    }
                    _ => None,
                };
                own.map(|value| Value { value, ratio, beyond_spread: None })
            };
            all.push((what.to_owned(), values.iter().enumerate().map(value).collect()));
        };
    single("one query, p50 ms", true, |p| Some(p.latency.p50_ms));
    single("one query, p95 ms", true, |p| Some(p.latency.p95_ms));
    single("first vector, ms", true, |p| {
        // An older report lacks this field, which is then read as zero, so zero is not compared.
        Some(p.cold.first_vector_s * 1e3).filter(|ms| *ms > 0.0)
    });
    single("load, ms", true, |p| Some(p.cold.load_s * 1e3));
    single("pipelines, ms", true, |p| Some(p.cold.pipelines_s * 1e3));
    single("GPU time of the profiled run, ms", true, |p| p.gpu.as_ref().map(|gpu| gpu.total_ms));
    single("weights, MiB", true, |p| Some(p.weight_bytes as f64 / f64::from(1 << 20)));
    single("activations, MiB", true, |p| Some(p.peak_activation_bytes as f64 / f64::from(1 << 20)));
    single("smallest cosine with f32", false, |p| Some(p.accuracy.min_cosine));
    single("Spearman × 100", false, |p| p.accuracy.spearman);
    all
}

/// Returns the median of a run's rounds, and its ratio to the first run. The spread of the ratio covers every pair of a
/// round of this run with a round of the first run.
fn throughput(base: &Option<Vec<f64>>, own: &Option<Vec<f64>>) -> Option<Value> {
    let middle = Ratio::over(own.clone()?);
    let mut value = Value { value: middle.median, ratio: None, beyond_spread: None };
    if let (Some(base), Some(own)) = (base, own)
        && base != own
    {
        let first = Ratio::over(base.clone());
        let ratio = Ratio {
            median: middle.median / first.median,
            low: middle.low / first.high,
            high: middle.high / first.low,
        };
        value.ratio = Some(ratio);
        // With a single round, the spread is unknown, so it is also unknown whether a difference exceeds the spread.
        let rounds = base.len().min(own.len());
        value.beyond_spread = (rounds > 1).then_some(ratio.low > 1.0 || ratio.high < 1.0);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_only_beyond_the_spread_of_the_rounds() {
        let of = |base: &[f64], own: &[f64]| {
            throughput(&Some(base.to_vec()), &Some(own.to_vec())).unwrap()
        };
        let faster = of(&[10.0, 11.0, 12.0], &[24.0, 22.0, 23.0]);
        assert_eq!(faster.value, 23.0);
        let ratio = faster.ratio.unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (23.0 / 11.0, 22.0 / 12.0, 2.4));
        assert_eq!(faster.beyond_spread, Some(true));
        assert_eq!(of(&[10.0, 12.0], &[11.0, 13.0]).beyond_spread, Some(false));
        assert_eq!(of(&[10.0, 12.0], &[8.0, 9.0]).beyond_spread, Some(true));
        assert_eq!(of(&[10.0], &[20.0]).beyond_spread, None);
        assert_eq!(throughput(&Some(vec![1.0]), &None), None);
    }
}
