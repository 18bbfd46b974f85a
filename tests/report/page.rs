//! Tests the contents of the page without a browser.

use serde_json::Value;
use vectile::lab::html;
use vectile::lab::report::{Ratio, Report};

use crate::sample::{HOSTILE, report};

/// Returns the numbers of the page, each with the text that is shown for it.
pub fn data(page: &str) -> Vec<(f64, String)> {
    page.split("<data value=\"")
        .skip(1)
        .map(|rest| {
            let (value, rest) = rest.split_once("\">").unwrap();
            let shown = rest.split_once("</data>").unwrap().0;
            (value.parse().unwrap(), shown.to_owned())
        })
        .collect()
}

/// Collects each number of a JSON document with its path.
pub fn numbers(at: &str, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => found.push((at.to_owned(), number.as_f64().unwrap())),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| numbers(&format!("{at}[{i}]"), item, found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| numbers(&format!("{at}.{key}"), value, found));
        }
        _ => {}
    }
}

/// Checks that the page's tables show every number of the report.
pub fn has_every_number(page: &str, report: &Report) {
    let shown: Vec<f64> = data(page).into_iter().map(|(value, _)| value).collect();
    let mut found = Vec::new();
    numbers("report", &serde_json::to_value(report).unwrap(), &mut found);
    assert!(found.len() > 500, "{}", found.len());
    let missing: Vec<&(String, f64)> =
        found.iter().filter(|(_, number)| !shown.contains(number)).collect();
    assert!(missing.is_empty(), "not in the page: {missing:?}");
}

#[test]
fn every_number_of_the_json_is_in_a_table() {
    let report = report();
    has_every_number(&html(&report).unwrap(), &report);
}

#[test]
fn the_text_of_a_number_is_that_number_rounded() {
    for (value, shown) in data(&html(&report()).unwrap()) {
        if shown == "as given" {
            assert_eq!(value, 0.0);
            continue;
        }
        let (digits, unit) = match shown.split_once(' ') {
            Some((digits, unit)) => {
                let power = ["B", "KiB", "MiB", "GiB"].iter().position(|u| *u == unit).unwrap();
                (digits, 1024f64.powi(power as i32))
            }
            None if shown.ends_with('%') => (shown.trim_end_matches('%'), 0.01),
            None => (shown.as_str(), 1.0),
        };
        let read: f64 = digits.parse().unwrap();
        let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
        let places = mantissa.split_once('.').map_or(0, |(_, places)| places.len() as i32);
        let last = 10f64.powi(exponent.parse::<i32>().unwrap() - places);
        assert!((read * unit - value).abs() <= 0.5001 * last * unit, "{shown} for {value}");
    }
}

#[test]
fn the_json_in_the_page_is_the_report() {
    let report = report();
    let page = html(&report).unwrap();
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"report\">").unwrap();
    let (json, rest) = rest.split_once("</script>").unwrap();
    assert_eq!(rest, "</body></html>");
    assert!(!json.contains('<'));
    // Both documents are parsed, so that their numbers are rounded in the same way.
    let whole = serde_json::to_vec(&report).unwrap();
    let read = Report::from_json(json.as_bytes()).unwrap();
    assert!(read == Report::from_json(&whole).unwrap());
}

#[test]
fn names_given_by_users_are_escaped() {
    let mut report = report();
    for (at, adapter) in report.adapters.iter_mut().enumerate() {
        adapter.adapter.name = format!("{HOSTILE}{at}");
        for precision in &mut adapter.precisions {
            precision.name = format!("{} {HOSTILE}", precision.name);
            for kernel in precision.gpu.iter_mut().flat_map(|gpu| &mut gpu.kernels) {
                kernel.name = format!("{HOSTILE}{}", kernel.name);
            }
        }
    }
    report.model.name = HOSTILE.to_owned();
    report.model.modules = vec![HOSTILE.to_owned()];
    let page = html(&report).unwrap();
    assert!(!page.contains("<b>") && !page.contains("<!--"));
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(page.contains("&lt;/script&gt;&lt;!--&lt;b&gt;&quot;a&quot; &amp; 'b'"));
}

#[test]
fn the_page_loads_nothing() {
    let page = html(&report()).unwrap();
    let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for asking in ["http:", "https:", "src=", "url(", "@import", "<link rel=\"stylesheet\""] {
        assert!(!page.contains(asking), "{asking}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("<meta name=\"viewport\" content=\"width=device-width"));
}

/// Makes a report of one adapter with f32 and f16. The speed of f16 is the given one.
fn of_two(rounds: usize, speed: Ratio) -> Report {
    let mut report = report();
    report.adapters.truncate(1);
    let adapter = &mut report.adapters[0];
    adapter.adapter.name = "The GPU".to_owned();
    adapter.precisions.truncate(2);
    for cell in &mut adapter.precisions[1].cells {
        cell.rounds_s.truncate(rounds);
        cell.speedup = speed;
    }
    adapter.precisions[1].accuracy.min_cosine = 0.999_999_12;
    report
}

#[test]
fn the_conclusion_respects_the_spread_of_the_rounds() {
    let speed = |median, low, high| Ratio { median, low, high };
    for (rounds, speed, said) in [
        (
            3,
            speed(1.31, 1.28, 1.35),
            "On The GPU, f16 is 1.31× (1.28–1.35) as fast as f32 on texts of 256 tokens",
        ),
        (
            3,
            speed(0.8, 0.7, 0.9),
            "On The GPU, f16 is slower than f32 on texts of 256 tokens: it is 0.80× (0.70–0.90) as fast",
        ),
        (
            3,
            speed(1.02, 0.97, 1.09),
            "no clear difference in speed between f16 and f32 on texts of 256 tokens: the \
             ratio is 1.02× (0.97–1.09)",
        ),
        (
            1,
            speed(1.31, 1.31, 1.31),
            "was 1.31× as fast as f32 on texts of 256 tokens in a single round, whose spread is not known",
        ),
    ] {
        let page = html(&of_two(rounds, speed)).unwrap();
        assert!(page.contains(said), "{said}");
        assert!(page.contains("those of f32 is at least 0.9999991."));
    }
}

#[test]
fn a_refused_f16_is_in_the_conclusion() {
    let mut report = of_two(3, Ratio { median: 1.0, low: 1.0, high: 1.0 });
    report.adapters[0].precisions.truncate(1);
    report.adapters[0].refused =
        serde_json::from_str(r#"[{"precision": "f16", "reason": "it has no SHADER_F16."}]"#)
            .unwrap();
    let page = html(&report).unwrap();
    assert!(page.contains(
        "On The GPU, f16 was not timed: it has no SHADER_F16. On The GPU, only f32 was timed."
    ));
    report.adapters[0].precisions.clear();
    report.adapters[0].refused.clear();
    assert!(html(&report).unwrap().contains("On The GPU, no precision was timed."));
}
