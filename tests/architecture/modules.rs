//! Reads the module tree of the crate: which module each file is, and to which room a path leads.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{ModuleDeclaration, PathUse};
use crate::tree::Tree;

/// The modules under one crate root, by file.
#[derive(Default)]
pub struct Modules {
    /// For each file, the path of its module in the crate. For example, `src/gpu/graph.rs` is `[gpu, graph]`.
    pub of_file: BTreeMap<String, Vec<String>>,
    /// Files that only tests compile.
    pub tests: BTreeSet<String>,
    /// Declarations whose file does not exist.
    pub missing: Vec<String>,
}

impl Modules {
    /// Follows the `mod` declarations from a root file such as `src/lib.rs`.
    pub fn from_root(tree: &Tree, root: &str) -> Self {
        let mut modules = Modules::default();
        modules.follow(tree, root, Vec::new(), true, false);
        modules
    }

    fn follow(&mut self, tree: &Tree, file: &str, path: Vec<String>, is_mod: bool, test: bool) {
        if self.of_file.insert(file.to_owned(), path.clone()).is_some() {
            return;
        }
        if test {
            self.tests.insert(file.to_owned());
        }
        for declaration in &tree.file(file).rust().modules {
            if declaration.is_inline {
                continue;
            }
            let candidates = files_of(file, is_mod, declaration);
            let Some((found, _)) = candidates.iter().find(|(path, _)| tree.has(path)) else {
                let name = &declaration.name;
                self.missing.push(format!("{file}:{}: no file for mod {name}", declaration.line));
                continue;
            };
            let child = [&path[..], &declaration.parents, std::slice::from_ref(&declaration.name)];
            let is_mod = candidates.iter().any(|(path, is_mod)| path == found && *is_mod);
            let test = test || declaration.is_test;
            self.follow(tree, &found.clone(), child.concat(), is_mod, test);
        }
    }
}

/// Returns the files that may hold a declared module. For each, the flag says whether its children are in its own
/// directory.
fn files_of(file: &str, is_mod: bool, declaration: &ModuleDeclaration) -> Vec<(String, bool)> {
    let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
    if let Some(path) = &declaration.path {
        return vec![(joined(directory, path), true)];
    }
    let mut directory = directory.to_owned();
    if !is_mod {
        directory = format!("{directory}/{}", name.trim_end_matches(".rs"));
    }
    for parent in &declaration.parents {
        directory = format!("{directory}/{parent}");
    }
    let name = &declaration.name;
    vec![(format!("{directory}/{name}.rs"), false), (format!("{directory}/{name}/mod.rs"), true)]
}

/// Returns a relative path with its `.` and `..` resolved.
pub fn joined(directory: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The rooms of the crate. They are the modules of the library, and `cli`, which belongs to the program.
pub struct Rooms {
    pub library: Modules,
    pub program: Modules,
    /// For each name that `src/lib.rs` re-exports, the room from which it comes.
    exports: BTreeMap<String, String>,
}

impl Rooms {
    pub fn of(tree: &Tree) -> Self {
        let library = Modules::from_root(tree, "src/lib.rs");
        let mut exports = BTreeMap::new();
        let names: Vec<String> = names_in(tree, "src/lib.rs");
        for path in &tree.file("src/lib.rs").rust().paths {
            if let [room, .., name] = &path.segments[..]
                && names.contains(room)
            {
                exports.insert(name.clone(), room.clone());
            }
        }
        Rooms { library, program: Modules::from_root(tree, "src/main.rs"), exports }
    }

    /// Returns the names of all rooms.
    pub fn names(tree: &Tree) -> BTreeSet<String> {
        ["src/lib.rs", "src/main.rs"].iter().flat_map(|root| names_in(tree, root)).collect()
    }

    /// Returns the files that belong to a room and are not only compiled for tests, each with its module path.
    pub fn files(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        [&self.library, &self.program]
            .into_iter()
            .flat_map(|modules| {
                modules.of_file.iter().filter(|(file, _)| !modules.tests.contains(*file))
            })
            .filter(|(_, path)| !path.is_empty())
    }

    /// Resolves a path in a module's file to a module path, if it leads into the crate.
    pub fn target(&self, module: &[String], used: &PathUse) -> Option<Vec<String>> {
        let own = [module, &used.parents].concat();
        let supers = used.segments.iter().take_while(|segment| *segment == "super").count();
        let full = match used.segments.first()?.as_str() {
            "crate" | "vectile" => used.segments[1..].to_vec(),
            "super" => {
                let kept = own.len().checked_sub(supers)?;
                [&own[..kept], &used.segments[supers..]].concat()
            }
            "self" => [&own[..], &used.segments[1..]].concat(),
            _ => return None,
        };
        let first = full.first()?;
        match self.exports.get(first) {
            Some(room) => Some(vec![room.clone(), first.clone()]),
            None => Some(full),
        }
    }
}

fn names_in(tree: &Tree, root: &str) -> Vec<String> {
    let modules = &tree.file(root).rust().modules;
    modules.iter().filter(|module| !module.is_test).map(|module| module.name.clone()).collect()
}
