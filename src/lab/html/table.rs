//! Makes tables in HTML, and their cells.

use maud::{Markup, html};

/// Returns a table in an element that scrolls independently of the page. The first column has the names of the rows.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns a table of names and values.
pub(super) fn facts(caption: &str, rows: &[(&str, Markup)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td.text { (value) } } } }
            }
        }
    }
}

/// Returns the content of a cell with a plain text.
pub(super) fn word(text: &str) -> Markup {
    html! { (text) }
}

pub(super) fn yes(value: bool) -> Markup {
    word(if value { "yes" } else { "no" })
}

/// Returns the content of a cell with a text, or with a dash if there is no text.
pub(super) fn or_none(value: Option<&str>) -> Markup {
    word(value.filter(|text| !text.is_empty()).unwrap_or("–"))
}
