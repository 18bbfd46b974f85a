//! Rules about rooms, their files, and the imports between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::Rooms;
use crate::page::{PAGE, rooms};
use crate::tree::Tree;
use crate::{Violation, catches, holds};

/// An import from one room into another.
struct Import {
    file: String,
    line: usize,
    from: String,
    to: String,
}

fn imports(tree: &Tree) -> Vec<Import> {
    let (rooms, names) = (Rooms::of(tree), Rooms::names(tree));
    let mut imports = Vec::new();
    for (file, module) in rooms.files() {
        for used in &tree.file(file).rust().paths {
            let Some(to) = rooms.target(module, used).map(|target| target[0].clone()) else {
                continue;
            };
            if to != module[0] && names.contains(&to) {
                let (file, from) = (file.clone(), module[0].clone());
                imports.push(Import { file, line: used.line, from, to });
            }
        }
    }
    imports
}

fn map_has_every_room(tree: &Tree) -> Vec<Violation> {
    let listed: Vec<String> = rooms(tree);
    let names = Rooms::names(tree);
    let missing = names.iter().filter(|name| !listed.contains(name));
    let missing = missing.map(|name| format!("{PAGE}: the map lacks the room `{name}`"));
    let unknown = listed.iter().filter(|name| !names.contains(*name));
    let unknown = unknown.map(|name| format!("{PAGE}: `{name}` in the map is not a room"));
    missing.chain(unknown).collect()
}

fn imports_follow_the_map(tree: &Tree) -> Vec<Violation> {
    let order = rooms(tree);
    let place = |room: &String| order.iter().position(|other| other == room);
    let against =
        imports(tree).into_iter().filter(|import| place(&import.to) >= place(&import.from));
    against
        .map(|Import { file, line, from, to }| {
            format!("{file}:{line}: `{from}` imports from `{to}`, which is not above it in {PAGE}")
        })
        .collect()
}

/// For each room or file, the names that it imports.
#[derive(Default)]
struct Graph {
    next: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn add(&mut self, from: &str, to: &str) {
        self.next.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    /// Returns everything that `from` imports, directly or through others.
    fn reachable(&self, from: &str) -> BTreeSet<String> {
        let (mut found, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(name) = left.pop() {
            for to in self.next.get(&name).into_iter().flatten() {
                if found.insert(to.clone()) {
                    left.push(to.clone());
                }
            }
        }
        found
    }

    /// Returns the names that import themselves through others, each with the other names of its circle.
    fn circles(&self) -> Vec<Violation> {
        let reachable: BTreeMap<&String, BTreeSet<String>> =
            self.next.keys().map(|name| (name, self.reachable(name))).collect();
        let circular = reachable.iter().filter(|(name, reached)| reached.contains(**name));
        circular
            .map(|(name, reached)| {
                let back =
                    |other: &&String| reachable.get(other).is_some_and(|r| r.contains(*name));
                let others: Vec<&String> = reached.iter().filter(back).collect();
                format!("{name}: in a circle of imports: {others:?}")
            })
            .collect()
    }
}

/// Finds rooms that import from each other, directly or through others.
fn circles_of_rooms(tree: &Tree) -> Vec<Violation> {
    let mut graph = Graph::default();
    for Import { from, to, .. } in imports(tree) {
        graph.add(&from, &to);
    }
    graph.circles()
}

/// Finds files of one room that import from each other. A `mod.rs` may name its own children.
fn circles_of_files(tree: &Tree) -> Vec<Violation> {
    let rooms = Rooms::of(tree);
    let files: BTreeMap<&Vec<String>, &String> =
        rooms.files().map(|(file, module)| (module, file)).collect();
    let mut graph = Graph::default();
    for (file, module) in rooms.files() {
        for used in &tree.file(file).rust().paths {
            let Some(mut target) = rooms.target(module, used) else { continue };
            while !target.is_empty() && !files.contains_key(&target) {
                target.pop();
            }
            let Some(to) = files.get(&target).filter(|_| target[0] == module[0]) else { continue };
            if *to != file {
                graph.add(file, to);
            }
        }
    }
    graph.circles()
}

#[test]
fn the_map_lists_exactly_the_rooms() {
    holds(map_has_every_room);
}

#[test]
fn a_room_that_the_map_lacks_is_reported() {
    let plant = |tree: &mut Tree| {
        tree.append("src/lib.rs", "mod cellar;");
        tree.set("src/cellar.rs", "");
    };
    catches(map_has_every_room, plant, &["lacks", "cellar"]);
    let plant = |tree: &mut Tree| tree.replace(PAGE, "| `gpu` |", "| `attic` |");
    catches(map_has_every_room, plant, &["not a room", "attic"]);
}

#[test]
fn a_room_imports_only_from_rooms_above_it() {
    holds(imports_follow_the_map);
}

#[test]
fn an_import_from_a_room_below_is_reported() {
    let words = ["src/batch.rs", "`batch` imports from `models`"];
    for import in [
        "use crate::models::TABLE;",
        "use crate::{error::Error, models::{self, TABLE}};",
        "fn late() { super::models::read() }",
        "fn late() { println!(\"{}\", crate::models::TABLE) }",
        "mod inner { use super::super::models; }",
    ] {
        catches(imports_follow_the_map, |tree| tree.append("src/batch.rs", import), &words);
    }
    let export = |tree: &mut Tree| tree.append("src/batch.rs", "use crate::Embedder;");
    catches(imports_follow_the_map, export, &["src/batch.rs", "`batch` imports from `embedder`"]);
}

#[test]
fn an_import_in_a_test_or_a_comment_is_allowed() {
    let mut tree = Tree::repository().clone();
    let before = imports(&tree).len();
    tree.append("src/batch.rs", "// use crate::models;\n#[cfg(test)]\nuse crate::models::TABLE;");
    tree.append("src/batch.rs", "#[cfg(test)]\nmod more { use crate::models; }");
    assert_eq!(imports(&tree).len(), before);
}

#[test]
fn no_rooms_import_from_each_other() {
    holds(circles_of_rooms);
}

#[test]
fn a_circle_through_a_third_room_is_reported() {
    let plant = |tree: &mut Tree| {
        tree.append("src/batch.rs", "use crate::gpu;");
        tree.append("src/gpu/mod.rs", "use crate::convert;");
        tree.append("src/convert.rs", "use crate::batch;");
    };
    catches(circles_of_rooms, plant, &["convert: in a circle", "batch", "gpu"]);
}

#[test]
fn no_files_of_a_room_import_from_each_other() {
    holds(circles_of_files);
}

#[test]
fn a_circle_of_files_is_reported() {
    let plant = |tree: &mut Tree| {
        tree.append("src/lab/accuracy.rs", "use crate::lab::compare;");
        tree.append("src/lab/compare.rs", "fn f() { super::accuracy::spearman(&[], &[]); }");
    };
    catches(circles_of_files, plant, &["src/lab/accuracy.rs", "src/lab/compare.rs"]);
}
