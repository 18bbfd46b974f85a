//! `vectile verify`: is a model right on this adapter, and how much of f16 does it bear?

use std::path::Path;

use vectile::block_on;
use vectile::lab::verify::{Reference, VerifyOptions, verify};

use super::args::VerifyArgs;
use super::bench::{writable, write};
use super::failure::Failure;
use super::input::Source;
use super::inspect::to_json;
use super::interrupt::Interrupt;
use super::table::Plain;
use super::{model, progress};

pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    // What cannot be read or written is known before minutes are spent.
    if let Some(path) = &args.json {
        writable(path)?;
    }
    let options = VerifyOptions {
        texts: args.texts.as_deref().map(|path| texts(path, args)).transpose()?,
        reference: args.reference.as_deref().map(reference).transpose()?,
        write_beside: args.write_verdict,
    };
    let builder = model::builder(&args.model())?;
    let _interrupt = Interrupt::watch();
    let bar = progress::spinner(!args.quiet);
    let found = block_on(verify(builder, &options, |doing| bar.set_message(doing.to_owned())));
    bar.finish_and_clear();
    let found = found?;
    if let Some(path) = &args.json {
        write(path, &(to_json(&found)? + "\n"))?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        Plain::new().whole(&found.to_string())?;
    }
    match found.failures.len() {
        0 => Ok(()),
        1 => Err(Failure::NotPassed(format!("{}: {}", args.model, found.failures[0]))),
        count => {
            let first = &found.failures[0];
            Err(Failure::NotPassed(format!(
                "{}: {count} checks failed, first: {first}",
                args.model
            )))
        }
    }
}

fn texts(path: &Path, args: &VerifyArgs) -> Result<(String, Vec<String>), Failure> {
    let mut source = Source::open(path, &args.lines)?;
    let mut texts = Vec::new();
    while let Some(chunk) = source.next_chunk(usize::MAX)? {
        texts.extend(chunk.whole()?);
    }
    let name = path.display().to_string();
    if texts.is_empty() {
        return Err(Failure::user(format!("{name}: has no texts; give a file with a text a line")));
    }
    Ok((name, texts))
}

fn reference(path: &Path) -> Result<Reference, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file(path, "read", &e))?;
    let beside = std::fs::read(path.with_file_name("texts.json")).ok();
    let name = path.display().to_string();
    Ok(Reference::from_safetensors(&name, &bytes, beside.as_deref())?)
}
