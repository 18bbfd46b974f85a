//! Reads the tables of ARCHITECTURE.md, from which several rules take their lists.

use crate::tree::Tree;

pub const PAGE: &str = "ARCHITECTURE.md";

/// Returns the rooms under `## The map`, in the order of imports.
pub fn rooms(tree: &Tree) -> Vec<String> {
    let rows = table(tree, "## The map");
    let rooms = rows.into_iter().map(|cells| match code(&cells[0]).as_slice() {
        [room] => room.clone(),
        other => panic!("a row of the map names {other:?}; expected one room"),
    });
    rooms.collect()
}

/// Returns the places where a thing may occur, from `## Where things may occur`. A place is a room or a path of
/// shaders.
pub fn places(tree: &Tree, thing: &str) -> Vec<String> {
    let rows = table(tree, "## Where things may occur");
    let row = rows.iter().find(|cells| cells[0] == thing);
    code(&row.unwrap_or_else(|| panic!("{PAGE} has no row for {thing}"))[1])
}

/// Returns the rows of the first table after a heading, without the table's head.
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

/// Returns the parts of a text that are in backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
