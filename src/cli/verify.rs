//! `vectile verify`: checks that a model's vectors are correct on this adapter, and whether f16 is safe for the model.

use std::path::Path;

use vectile::block_on;
use vectile::lab::verify::{Reference, VerifyOptions, verify};

use super::args::VerifyArgs;
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::report_file::{self, is_stdout};
use super::stdout::{print, to_json};
use super::{model, progress};

pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    // The verification takes minutes, so the output file is checked first.
    if let Some(path) = &args.json {
        report_file::check_writable(path)?;
    }
    let options = VerifyOptions {
        texts: args.texts.as_deref().map(|path| read_texts(path, args)).transpose()?,
        reference: args.reference.as_deref().map(read_reference).transpose()?,
        write_beside: args.write_verdict,
    };
    let builder = model::builder(&args.model())?;
    let _interrupt = Interrupt::watch();
    let bar = progress::spinner(!args.quiet);
    let found = block_on(verify(builder, &options, |step| bar.set_message(step.to_owned())));
    bar.finish_and_clear();
    let found = found?;
    if let Some(path) = &args.json {
        report_file::write(path, &(to_json(&found)? + "\n"))?;
    }
    if !args.json.as_deref().is_some_and(is_stdout) {
        print(&found.to_string())?;
    }
    match found.failures.as_slice() {
        [] => Ok(()),
        [failure] => Err(Failure::CheckFailed(format!("{}: {failure}", args.model))),
        [first, ..] => Err(Failure::CheckFailed(format!(
            "{}: {} checks failed; the first failure: {first}",
            args.model,
            found.failures.len()
        ))),
    }
}

/// Reads a file and returns its name and its texts.
fn read_texts(path: &Path, args: &VerifyArgs) -> Result<(String, Vec<String>), Failure> {
    let texts = TextSource::open(path, &args.lines)?.read_all()?;
    let name = path.display().to_string();
    if texts.is_empty() {
        return Err(Failure::user(format!(
            "{name}: has no texts; give a file with one text per line"
        )));
    }
    Ok((name, texts))
}

fn read_reference(path: &Path) -> Result<Reference, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file(path, "read", &e))?;
    let beside = std::fs::read(path.with_file_name("texts.json")).ok();
    let name = path.display().to_string();
    Ok(Reference::from_safetensors(&name, &bytes, beside.as_deref())?)
}
