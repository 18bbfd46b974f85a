//! Vectile's worker for the comparison in `benches/peers`:
//! `peer MODEL [--dtype D] [--half-fallback F] [--activations A] [--disable FEATURE] [--adapter A] [--threads N]
//! [--batch-tokens N]`.
//! The options have the same meaning as in `vectile embed`.

#[path = "protocol.rs"]
mod protocol;

use std::error::Error;
use std::path::PathBuf;

use protocol::Vectors;
use serde_json::json;
use vectile::{Embedder, EmbedderBuilder, ModelFiles, block_on};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("usage: peer MODEL [--OPTION VALUE ...]")?;
    let mut builder = Embedder::builder(ModelFiles::from_directory(&model)?);
    // The cache directory is the same as that of the program `vectile`.
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        builder = builder.cache_dir(PathBuf::from(cache).join("vectile"));
    }
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option}: no value"))?;
        builder = with(builder, &option, &value)?;
    }
    let embedder = block_on(builder.build())?;
    let adapter = embedder.adapter();
    let about = json!({
        "versions": {"vectile": env!("CARGO_PKG_VERSION")},
        "device": adapter.to_string(),
        "adapter": adapter,
        "precision": embedder.precision().to_string(),
        "software": adapter.is_software(),
        "memory": embedder.memory().to_string(),
    });
    protocol::serve(&about, |texts| {
        let embeddings = block_on(embedder.embed(texts))?;
        Ok(Vectors { dim: embeddings.dim, values: embeddings.values, tokens: embeddings.tokens })
    })
}

fn with(
    builder: EmbedderBuilder,
    option: &str,
    value: &str,
) -> Result<EmbedderBuilder, Box<dyn Error>> {
    Ok(match option {
        "--dtype" => builder.dtype(value.parse()?),
        "--half-fallback" => builder.half_fallback(value.parse()?),
        "--activations" => builder.activations(value.parse()?),
        "--disable" => builder.disable(vec![value.parse()?]),
        "--adapter" => builder.adapter(value.parse()?),
        "--threads" => builder.threads(value.parse()?),
        "--batch-tokens" => builder.batch_tokens(value.parse()?),
        _ => return Err(format!("{option} is unknown").into()),
    })
}
