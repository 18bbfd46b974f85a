//! Scores and texts as a table: with borders on a terminal, plain lines in a pipe.

use std::collections::BinaryHeap;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use super::failure::Failure;
use super::input::Chunk;

/// A line of the input and its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub score: f64,
    pub line: u64,
    pub text: String,
}

impl Eq for Scored {}

impl Ord for Scored {
    /// Better is smaller, so that the top of a max-heap is the worst; of equals the earlier line
    /// is better.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then(self.line.cmp(&other.line))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The best so many lines of however many.
pub struct Best {
    most: usize,
    heap: BinaryHeap<Scored>,
}

impl Best {
    pub fn new(most: usize) -> Self {
        Best { most, heap: BinaryHeap::new() }
    }

    /// Takes a line of a chunk into account.
    pub fn offer(&mut self, score: f64, chunk: &Chunk, i: usize) {
        let full = self.heap.len() == self.most;
        if full && self.heap.peek().is_some_and(|worst| worst.score >= score) {
            return;
        }
        if full {
            self.heap.pop();
        }
        let (line, text) = (chunk.about.lines[i], chunk.text(i).to_owned());
        self.heap.push(Scored { score, line, text });
    }

    /// Prints them, the best first.
    pub fn print(self) -> Result<(), Failure> {
        let rows = self.heap.into_sorted_vec();
        let mut out = Plain::new();
        if std::io::stdout().is_terminal() {
            return out.whole(&boxed(&rows));
        }
        for (rank, row) in rows.iter().enumerate() {
            out.ranked(rank + 1, row)?;
        }
        out.finish()
    }

    /// Prints them as JSON, an object a line, the best first.
    pub fn print_json(self) -> Result<(), Failure> {
        let mut out = Plain::new();
        for (rank, row) in self.heap.into_sorted_vec().iter().enumerate() {
            let Scored { score, line, text } = row;
            let object = RankedLine { rank: rank + 1, score: *score as f32, line: *line, text };
            serde_json::to_writer(&mut out.0, &object).map_err(|e| Failure::stdout(&e.into()))?;
            writeln!(out.0).map_err(|e| Failure::stdout(&e))?;
        }
        out.finish()
    }
}

/// A line of the JSON that [`Best::print_json`] writes.
#[derive(Serialize)]
struct RankedLine<'a> {
    rank: usize,
    score: f32,
    line: u64,
    text: &'a str,
}

/// In a terminal that is narrower, or does not tell its width, lines of the table are broken.
const NARROWEST: u16 = 50;

fn boxed(rows: &[Scored]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < NARROWEST) {
        table.set_width(NARROWEST);
    }
    table.set_header(["rank", "score", "line", "text"]);
    for (rank, row) in rows.iter().enumerate() {
        table.add_row([
            (rank + 1).to_string(),
            format!("{:.4}", row.score),
            row.line.to_string(),
            printable(&row.text),
        ]);
    }
    // Only texts are broken into lines.
    for column in table.column_iter_mut().take(3) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.to_string()
}

/// Lines on stdout, each text unbroken.
pub struct Plain(BufWriter<Stdout>);

impl Plain {
    pub fn new() -> Self {
        Plain(BufWriter::new(std::io::stdout()))
    }

    /// A line with its score.
    pub fn scored(&mut self, score: f64, line: u64, text: &str) -> Result<(), Failure> {
        writeln!(self.0, "{score:>7.4}  {line:>6}  {}", printable(text))
            .map_err(|e| Failure::stdout(&e))
    }

    /// A line with its score and rank.
    fn ranked(&mut self, rank: usize, row: &Scored) -> Result<(), Failure> {
        write!(self.0, "{rank:>4}  ").map_err(|e| Failure::stdout(&e))?;
        self.scored(row.score, row.line, &row.text)
    }

    /// Text that needs no more than a line end.
    pub fn whole(mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.0, "{}", text.trim_end()).map_err(|e| Failure::stdout(&e))?;
        self.finish()
    }

    /// Sends what is buffered on its way.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|e| Failure::stdout(&e))
    }

    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// Control characters as spaces: a text stays on its line and says nothing to the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input::About;

    #[test]
    fn the_best_are_kept_and_of_equals_the_earlier() {
        let scores = [0.5, 0.9, 0.5, -0.1, 0.9, 0.7];
        let texts = scores.map(|s| Some(s.to_string())).to_vec();
        let mut about = About::default();
        about.lines = (1..=scores.len() as u64).collect();
        let chunk = Chunk { texts, about };
        for (most, lines) in [(1, vec![2]), (4, vec![2, 5, 6, 1]), (9, vec![2, 5, 6, 1, 3, 4])] {
            let mut best = Best::new(most);
            for (i, score) in scores.into_iter().enumerate() {
                best.offer(score, &chunk, i);
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
