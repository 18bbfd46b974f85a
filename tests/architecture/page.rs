//! The tables of ARCHITECTURE.md, which several rules take their lists from.

use crate::tree::Tree;

pub const PAGE: &str = "ARCHITECTURE.md";

/// The rooms under `## The map`, in the order of imports.
pub fn rooms(tree: &Tree) -> Vec<String> {
    let rows = table(tree, "## The map");
    let rooms = rows.into_iter().map(|cells| match code(&cells[0]).as_slice() {
        [room] => room.clone(),
        other => panic!("a row of the map names {other:?}; expected one room"),
    });
    rooms.collect()
}

/// The places of a thing under `## Where things may occur`: rooms, or paths of shaders.
pub fn places(tree: &Tree, thing: &str) -> Vec<String> {
    let rows = table(tree, "## Where things may occur");
    let row = rows.iter().find(|cells| cells[0] == thing);
    code(&row.unwrap_or_else(|| panic!("{PAGE} has no row for {thing}"))[1])
}

/// The rows of the first table after a heading, without its head.
fn table(tree: &Tree, heading: &str) -> Vec<Vec<String>> {
    let mut lines = tree.text(PAGE).lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "{PAGE} has no heading {heading:?}");
    let rows = lines.skip_while(|line| !line.starts_with('|'));
    let rows = rows
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    rows.collect()
}

/// The parts of a text in backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
