//! Prints ranked lines: as a table with borders on a terminal, and as plain lines otherwise. Other commands make their
//! tables with this module too.

use std::collections::BinaryHeap;
use std::io::IsTerminal;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use super::failure::Failure;
use super::input::Chunk;
use super::stdout::{StdoutLines, print};

/// Returns a table with a header. All columns except the first are aligned to the right.
pub fn number_table<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
    let mut table = Table::new();
    let header: Vec<String> = header.into_iter().map(Into::into).collect();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns a table with a header. All columns are aligned to the left.
pub fn text_table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// A line of the input and its score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredLine {
    pub score: f64,
    pub line: u64,
    pub text: String,
}

impl Eq for ScoredLine {}

impl Ord for ScoredLine {
    /// Orders a better line before a worse line, so that the top of a max-heap is the worst line. If two lines have
    /// equal scores, the earlier line is better.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then(self.line.cmp(&other.line))
    }
}

impl PartialOrd for ScoredLine {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Collects the lines with the highest scores, up to a maximum number.
pub struct BestLines {
    maximum: usize,
    heap: BinaryHeap<ScoredLine>,
}

impl BestLines {
    pub fn new(maximum: usize) -> Self {
        BestLines { maximum, heap: BinaryHeap::new() }
    }

    /// Adds row `row` of a chunk if its score is among the highest so far.
    pub fn offer(&mut self, score: f64, chunk: &Chunk, row: usize) {
        let full = self.heap.len() == self.maximum;
        if full && self.heap.peek().is_some_and(|worst| worst.score >= score) {
            return;
        }
        if full {
            self.heap.pop();
        }
        let (line, text) = (chunk.lines[row], chunk.text(row).to_owned());
        self.heap.push(ScoredLine { score, line, text });
    }

    /// Returns a collection of these lines, whose maximum number is the number of lines.
    pub fn of(lines: Vec<ScoredLine>) -> Self {
        BestLines { maximum: lines.len(), heap: lines.into() }
    }

    /// Returns the number of lines collected so far.
    pub fn len(&self) -> u64 {
        self.heap.len() as u64
    }

    /// Prints the lines, best first.
    pub fn print(self) -> Result<(), Failure> {
        print_lines(&self.heap.into_sorted_vec())
    }

    /// Prints the lines as one JSON object each, best first.
    pub fn print_json(self) -> Result<(), Failure> {
        let mut out = StdoutLines::new();
        json_lines(&mut out, None, &self.heap.into_sorted_vec())?;
        out.flush()
    }
}

/// The best lines of several queries.
pub struct Found {
    pub queries: Vec<String>,
    /// The best lines of each query.
    pub lines: Vec<BestLines>,
}

impl Found {
    /// Prints the best lines of each query, best first. If `json` is set, each line is a JSON object, otherwise a row
    /// of a table.
    pub fn print(self, json: bool) -> Result<(), Failure> {
        let several = self.queries.len() > 1;
        let found = self.lines.into_iter().map(|best| best.heap.into_sorted_vec());
        if json {
            let mut out = StdoutLines::new();
            for (query, lines) in found.enumerate() {
                json_lines(&mut out, Some(query), &lines)?;
            }
            return out.flush();
        }
        for (query, lines) in self.queries.iter().zip(found) {
            if several {
                print(&format!("query: {}", printable(query)))?;
            }
            print_lines(&lines)?;
        }
        Ok(())
    }
}

fn print_lines(lines: &[ScoredLine]) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return print(&bordered(lines));
    }
    let mut out = StdoutLines::new();
    for (rank, line) in (1..).zip(lines) {
        let score = score_columns(line.score, line.line, &line.text);
        out.line(format_args!("{rank:>4}  {}", score.trim_end()))?;
    }
    out.flush()
}

fn json_lines(
    out: &mut StdoutLines,
    query: Option<usize>,
    lines: &[ScoredLine],
) -> Result<(), Failure> {
    for (rank, line) in (1..).zip(lines) {
        let ScoredLine { score, line, text } = line;
        out.json_line(&RankedLine { query, rank, score: *score as f32, line: *line, text })?;
    }
    Ok(())
}

/// A ranked line as it is printed in JSON.
#[derive(Serialize)]
struct RankedLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<usize>,
    rank: usize,
    score: f32,
    line: u64,
    text: &'a str,
}

/// Returns the score, the line number and the text as aligned columns on one line.
pub fn score_columns(score: f64, line: u64, text: &str) -> String {
    format!("{score:>7.4}  {line:>6}  {}", printable(text))
}

/// The minimum width of a table, in characters. A table also has this width if the terminal does not report its own
/// width.
const MINIMUM_WIDTH: u16 = 50;

fn bordered(lines: &[ScoredLine]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < MINIMUM_WIDTH) {
        table.set_width(MINIMUM_WIDTH);
    }
    table.set_header(["rank", "score", "line", "text"]);
    for (rank, line) in (1..).zip(lines) {
        let rank: usize = rank;
        table.add_row([
            rank.to_string(),
            format!("{:.4}", line.score),
            line.line.to_string(),
            printable(&line.text),
        ]);
    }
    // Only the last column, which holds the texts, is wrapped.
    for column in table.column_iter_mut().take(3) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.to_string()
}

/// Replaces control characters in the text by spaces, so that the text stays on one line and cannot control the
/// terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_lines_are_kept_and_ties_go_to_the_earlier_line() {
        let scores = [0.5, 0.9, 0.5, -0.1, 0.9, 0.7];
        let texts = scores.map(|s| Some(s.to_string())).to_vec();
        let lines = (1..=scores.len() as u64).collect();
        let chunk = Chunk { texts, lines, ..Chunk::default() };
        for (maximum, lines) in [(1, vec![2]), (4, vec![2, 5, 6, 1]), (9, vec![2, 5, 6, 1, 3, 4])] {
            let mut best = BestLines::new(maximum);
            for (row, score) in scores.into_iter().enumerate() {
                best.offer(score, &chunk, row);
            }
            let found: Vec<u64> = best.heap.into_sorted_vec().iter().map(|row| row.line).collect();
            assert_eq!(found, lines);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\tb\r\n\x1b[31mc"), "a b   [31mc");
    }
}
