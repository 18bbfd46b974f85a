//! Makes one HTML page of a bench report: plots, tables of all numbers, and the report as JSON.
//!
//! The page loads no other file and runs no script. Numbers in tables are `<data>` elements, whose attribute `value`
//! holds the number in full precision, as in the JSON.

mod facts;
mod figures;
mod number;
mod plots;
mod results;
mod table;
mod verdict;

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use crate::lab::report::{AdapterReport, Report};

const STYLE: &str = include_str!("style.css");

/// The content security policy of the page. The policy allows only styles and images that the page contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Returns the HTML page of a report.
///
/// # Errors
/// Returns a message if a plot cannot be drawn or the report cannot be written as JSON.
pub fn html(report: &Report) -> Result<String, String> {
    let json = serde_json::to_string(report)
        .map_err(|e| format!("the report cannot be written as JSON: {e}"))?;
    let adapters = report.adapters.iter().enumerate();
    let sections: Vec<Markup> =
        adapters.map(|(at, adapter)| section(at, adapter)).collect::<Result<_, _>>()?;
    let title = match &report.label {
        Some(label) => format!("{}, {label}", report.model.name),
        None => report.model.name.clone(),
    };
    Ok(markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) " – vectile bench" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.faint { "vectile bench, version " (report.vectile) ", " (report.date) }
                    @if report.host.debug_build {
                        p.verdict.warning {
                            "This is a debug build: host times are longer than in a release build."
                        }
                    }
                    @for adapter in &report.adapters { p.verdict { (verdict::verdict(adapter)) } }
                    @if report.adapters.len() > 1 {
                        nav aria-label="Adapters" {
                            ul {
                                @for (at, adapter) in report.adapters.iter().enumerate() {
                                    li { a href=(format!("#adapter-{at}")) { (adapter.adapter.to_string()) } }
                                }
                            }
                        }
                    }
                    @for section in &sections { (section) }
                    (facts::run(report))
                }
                script type="application/json" id="report" { (PreEscaped(in_script(&json))) }
            }
        }
    }
    .into_string())
}

fn section(at: usize, adapter: &AdapterReport) -> Result<Markup, String> {
    let id = format!("adapter-{at}");
    let of = format!("{id}-title");
    let plots = figures::plots(adapter)?;
    Ok(markup! {
        section id=(id) aria-labelledby=(of) {
            h2 id=(of) { (adapter.adapter.name) }
            p.faint { (adapter.adapter.to_string()) }
            @if !adapter.precisions.is_empty() { (plots) }
            (results::results(adapter))
        }
    })
}

/// Returns the JSON with escapes, so that no text in the JSON can end the script element that contains it. In JSON, `<`
/// occurs only inside strings, where an escape stands for the same character.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
