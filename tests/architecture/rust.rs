//! Collects the facts about a Rust file that the rules need: modules, paths, strings, method calls and documentation.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The facts about a file. Items under `#[cfg(test)]` are left out, except for declarations of modules.
#[derive(Default)]
pub struct RustFile {
    pub modules: Vec<ModuleDeclaration>,
    pub paths: Vec<PathUse>,
    pub strings: Vec<Literal>,
    /// Calls of methods without arguments.
    pub methods: Vec<Literal>,
    pub docs: Vec<ItemDocs>,
    /// The names and lines of inline test modules after which other items follow.
    pub early_tests: Vec<Literal>,
}

/// A module declaration, which is `mod name;` or `mod name { … }`.
pub struct ModuleDeclaration {
    pub name: String,
    /// The inline modules around the declaration, from the outside in.
    pub parents: Vec<String>,
    /// The value of the attribute `#[path = "…"]`, if there is one.
    pub path: Option<String>,
    pub is_inline: bool,
    pub is_test: bool,
    /// Whether the module is also a part of builds of cargo-fuzz.
    pub is_for_fuzzing: bool,
    pub line: usize,
}

/// A path such as `crate::gpu::graph::Graph`, in a `use` or in code.
pub struct PathUse {
    pub segments: Vec<String>,
    /// The inline modules around the path, from the outside in.
    pub parents: Vec<String>,
    pub line: usize,
}

/// A string literal, the name of a called method, or the name of a module.
pub struct Literal {
    pub text: String,
    pub line: usize,
}

/// The documentation of a `pub` item.
pub struct ItemDocs {
    pub text: String,
    pub line: usize,
}

impl RustFile {
    pub fn parse(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut visitor = Visitor::default();
        visitor.visit_file(&file);
        for (at, item) in file.items.iter().enumerate() {
            let followed = file.items[at + 1..].iter().any(|item| !is_test(attributes_of(item)));
            if let syn::Item::Mod(module) = item
                && is_test(&module.attrs)
                && module.content.is_some()
                && followed
            {
                let (text, line) = (module.ident.to_string(), module.ident.span().start().line);
                visitor.found.early_tests.push(Literal { text, line });
            }
        }
        visitor.found
    }
}

#[derive(Default)]
struct Visitor {
    found: RustFile,
    parents: Vec<String>,
}

impl Visitor {
    fn path(&mut self, segments: Vec<String>, line: usize) {
        self.found.paths.push(PathUse { segments, parents: self.parents.clone(), line });
    }

    /// Collects every path of a `use`. There is one path for each imported name.
    fn use_tree(&mut self, tree: &syn::UseTree, mut before: Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.use_tree(item, before.clone()));
            }
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                if ident != "self" {
                    before.push(ident.to_string());
                }
                self.path(before, ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => self.path(before, glob.star_token.spans[0].start().line),
        }
    }

    /// Collects the paths and strings in a macro call, whose tokens may have any grammar.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) => {
                    let mut segments = vec![ident.to_string()];
                    while is_colon(at + 1) && is_colon(at + 2) {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    self.path(segments, ident.span().start().line);
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        let line = literal.span().start().line;
                        self.found.strings.push(Literal { text: text.value(), line });
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }

    fn docs(&mut self, attributes: &[syn::Attribute], visibility: &syn::Visibility) {
        if !matches!(visibility, syn::Visibility::Public(_)) {
            return;
        }
        let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text),
                _ => None,
            },
            _ => None,
        });
        let lines: Vec<&syn::LitStr> = lines.collect();
        if let Some(first) = lines.first() {
            let line = first.span().start().line;
            let text: Vec<String> = lines.iter().map(|line| line.value()).collect();
            self.found.docs.push(ItemDocs { text: text.join("\n"), line });
        }
    }
}

/// Whether an attribute is a `cfg` that names `fuzzing`, which only tests and builds of cargo-fuzz set.
fn is_for_fuzzing(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && names(&list.tokens, "fuzzing"),
        _ => false,
    })
}

/// Whether a word occurs among tokens or in their groups.
fn names(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => names(&group.stream(), word),
        _ => false,
    })
}

/// Whether an attribute is a `cfg` that needs `test`, or that names `fuzzing`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    if is_for_fuzzing(attributes) {
        return true;
    }
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let mut tokens = list.tokens.clone().into_iter();
            match (tokens.next(), tokens.next()) {
                (Some(TokenTree::Ident(first)), None) => first == "test",
                (Some(TokenTree::Ident(first)), Some(TokenTree::Group(group)))
                    if first == "all" =>
                {
                    group
                        .stream()
                        .into_iter()
                        .any(|token| matches!(token, TokenTree::Ident(ident) if ident == "test"))
                }
                _ => false,
            }
        }
        _ => false,
    })
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::*;
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        ExternCrate(item) => &item.attrs,
        Fn(item) => &item.attrs,
        ForeignMod(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        TraitAlias(item) => &item.attrs,
        Type(item) => &item.attrs,
        Union(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if matches!(item, syn::Item::Mod(_)) || !is_test(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let path = item.attrs.iter().find_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
                _ => None,
            },
            _ => None,
        });
        let is_test = is_test(&item.attrs);
        let name = item.ident.to_string();
        self.found.modules.push(ModuleDeclaration {
            name: name.clone(),
            parents: self.parents.clone(),
            path,
            is_inline: item.content.is_some(),
            is_test,
            is_for_fuzzing: is_for_fuzzing(&item.attrs),
            line: item.ident.span().start().line,
        });
        if !is_test {
            self.docs(&item.attrs, &item.vis);
            self.parents.push(name);
            visit::visit_item_mod(self, item);
            self.parents.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(segments, path.segments[0].ident.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        let line = literal.span().start().line;
        self.found.strings.push(Literal { text: literal.value(), line });
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.args.is_empty() {
            let line = call.method.span().start().line;
            self.found.methods.push(Literal { text: call.method.to_string(), line });
        }
        visit::visit_expr_method_call(self, call);
    }

    // Attributes are skipped, because their strings and paths are not code.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    // Visibilities are skipped, because `pub(crate)` contains a path.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[syn::Attribute] = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            self.docs(&field.attrs, &field.vis);
            visit::visit_field(self, field);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_static(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_type(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.docs(&item.attrs, &item.vis);
        visit::visit_item_trait(self, item);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_test(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }
}
