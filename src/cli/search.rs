//! `vectile search`: the lines of a file that are nearest to a query.

use vectile::{EmbedOptions, Embedder, block_on};

use super::args::SearchArgs;
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::say;
use super::similarity::cosine;
use super::table::Best;
use super::{model, stream};

pub fn run(args: &SearchArgs) -> Result<(), Failure> {
    let mut source = Source::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
    let embedder = model::open(&args.model)?;
    let quiet = args.model.quiet;
    let given = args.text.options();
    let query =
        block_on(embedder.embed_with(&[&args.query], &prompted(&given, &embedder, Role::Query)))?;
    let passages = prompted(&given, &embedder, Role::Document);
    if !quiet {
        warn_of_unused_prompt(&passages, &embedder);
    }
    let mut best = Best::new(args.top.get());
    let progress = Progress::new(source.total_bytes(), !quiet);
    let totals = stream::each_chunk(
        &embedder,
        &passages,
        &mut source,
        &interrupt,
        progress,
        |chunk, rows| {
            for (i, row) in rows.rows().enumerate() {
                if !chunk.texts[i].trim().is_empty() {
                    best.offer(cosine(query.row(0), row), chunk, i);
                }
            }
            Ok(())
        },
    )?;
    totals.report(&embedder, quiet);
    best.print()
}

/// Which side of a search a text is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Query,
    Document,
}

/// The options with the prompt of that side, where the user named none.
///
/// What `encode_query` and `encode_document` of sentence-transformers give: every model there has
/// a prompt named `query` and one named `document`, empty where its config has none, so neither the
/// default prompt nor one named `passage` or `corpus` is ever used.
fn prompted(given: &EmbedOptions, embedder: &Embedder, role: Role) -> EmbedOptions {
    let mut options = given.clone();
    if options.prompt.is_some() || options.prompt_name.is_some() {
        return options;
    }
    let name = match role {
        Role::Query => "query",
        Role::Document => "document",
    };
    match embedder.prompts().contains_key(name) {
        true => options.prompt_name = Some(name.to_owned()),
        false => options.prompt = Some(String::new()),
    }
    options
}

fn warn_of_unused_prompt(passages: &EmbedOptions, embedder: &Embedder) {
    let prompts = embedder.prompts();
    let filled = |name: &str| prompts.get(name).is_some_and(|prompt| !prompt.is_empty());
    let plain = passages.prompt.as_deref() == Some("")
        || passages.prompt_name.as_deref() == Some("document") && !filled("document");
    if plain && let Some(name) = ["passage", "corpus"].into_iter().find(|name| filled(name)) {
        say(format_args!(
            "note: the lines get no prompt, as in sentence-transformers, which takes the one named \
             `document`; the model's prompt `{name}` is not used"
        ));
    }
}
