//! Tests that benches/REPORT.md documents every field of the JSON.

use serde_json::Value;

use crate::sample::report;

/// Collects every key, except those of `Precision`, which `inspect --json` describes.
fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.push(key.clone());
                if key != "precision" {
                    keys(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_a_report_is_documented() {
    let page = include_str!("../../benches/REPORT.md");
    let mut found = Vec::new();
    keys(&serde_json::to_value(report()).unwrap(), &mut found);
    found.sort();
    found.dedup();
    assert!(found.len() > 80, "{}", found.len());
    // In the page, the key is in backticks. It is alone, at the end of a path, or before `[]`.
    let documented = |key: &String| {
        [
            format!("`{key}`"),
            format!(".{key}`"),
            format!("`{key}["),
            format!(".{key}["),
            format!("`{key}."),
            format!("\"{key}\""),
        ]
        .iter()
        .any(|form| page.contains(form))
    };
    let missing: Vec<&String> = found.iter().filter(|key| !documented(key)).collect();
    assert!(missing.is_empty(), "not in benches/REPORT.md: {missing:?}");
}
