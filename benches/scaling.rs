//! How the cost of a text depends on what it is embedded with: on the lengths of the others, on how many
//! there are, and on its own length. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use support::{build, fixture, read_json, resident_memory, test_model};
use vectile::stream::{Job, WindowRows, stream};
use vectile::{EmbedOptions, Embedder, Error, ModelFiles, block_on};

/// Sizes: the whole bench under `cargo bench`, a moment's worth under `cargo test`.
struct Size {
    rounds: usize,
    /// Tokens of a measured run of the model.
    tokens: usize,
    /// Texts of the smallest and of the largest run of the tiny model.
    texts: [usize; 2],
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let size = if whole {
        Size { rounds: 5, tokens: 8192, texts: [1000, 1_000_000] }
    } else {
        Size { rounds: 1, tokens: 600, texts: [10, 100] }
    };
    let tiny = fixture("bert_mean_norm");
    let model = test_model().unwrap_or_else(|| tiny.clone());
    let Some(embedder) = load(&model) else { return };
    println!("adapter: {}", embedder.adapter());
    println!("{} in {}, vectile {}", name(&model), embedder.precision(), env!("CARGO_PKG_VERSION"));
    lengths(&embedder, &size);
    mixed(&embedder, &size);
    drop(embedder);
    if let Some(embedder) = load(&tiny) {
        numbers(&embedder, &size);
    }
}

fn name(model: &Path) -> String {
    model.file_name().unwrap().to_string_lossy().into_owned()
}

/// The model, with as many tokens a text as it has positions.
fn load(model: &Path) -> Option<Embedder> {
    let directory = tempfile::tempdir().unwrap();
    copy(model, directory.path());
    let file = directory.path().join("sentence_bert_config.json");
    let config: serde_json::Value = read_json(&model.join("config.json"));
    let most = config["max_position_embeddings"].as_u64().unwrap();
    let limit = serde_json::json!({ "max_seq_length": most, "do_lower_case": false });
    std::fs::write(file, limit.to_string()).unwrap();
    let files = ModelFiles::from_directory(directory.path()).unwrap();
    build(Embedder::builder(files))
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A text of exactly so many tokens, special ones included, whatever the tokenizer: a letter is one.
fn text(tokens: usize) -> String {
    vec!["a"; tokens - 2].join(" ")
}

/// Tokens a second of texts, which have so many tokens in all.
fn rate(embedder: &Embedder, texts: &[String]) -> f64 {
    let start = Instant::now();
    let embedded = block_on(embedder.embed(texts)).unwrap();
    embedded.tokens as f64 / start.elapsed().as_secs_f64()
}

/// Rounds in which the sets take turns: for each set its rates.
fn rounds(embedder: &Embedder, size: &Size, sets: &[Vec<String>]) -> Vec<Vec<f64>> {
    let mut rates = vec![Vec::new(); sets.len()];
    // The first round warms up.
    for round in 0..=size.rounds {
        for (rates, set) in rates.iter_mut().zip(sets) {
            let rate = rate(embedder, set);
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    rates
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The ratios of two sets, round by round: the median with the least and the most.
fn ratio(of: &[f64], to: &[f64]) -> String {
    let mut ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2}× ({least:.2} to {most:.2})", median(ratios))
}

/// Texts of one length each, from short to long: what is beyond attention costs the same a token.
fn lengths(embedder: &Embedder, size: &Size) {
    let most = embedder.max_seq_length().unwrap();
    let lengths: Vec<usize> =
        [16, 32, 64, 128, 256, 512].into_iter().filter(|length| *length <= most).collect();
    let sets: Vec<Vec<String>> =
        lengths.iter().map(|n| vec![text(*n); (size.tokens / n).max(1)]).collect();
    let rates = rounds(embedder, size, &sets);
    println!("\ntexts of one length: tokens a second, beside the first");
    for (length, rate) in lengths.iter().zip(&rates) {
        let beside = ratio(rate, &rates[0]);
        println!("  {length:4} tokens {:10.0}   {beside}", median(rate.clone()));
    }
}

/// Texts of 5 tokens to the model's most, shuffled, beside as many tokens in texts of one length.
fn mixed(embedder: &Embedder, size: &Size) {
    let most = embedder.max_seq_length().unwrap().min(512);
    let mut random = fastrand::Rng::with_seed(7);
    let mut various = Vec::new();
    let mut squares = 0;
    while various.iter().sum::<usize>() < 2 * size.tokens {
        let length = random.usize(5..=most);
        squares += length * length;
        various.push(length);
    }
    let tokens: usize = various.iter().sum();
    // Attention costs a token as much in both sets: each is beside as many others on average.
    let equal = squares / tokens;
    let sets = [
        various.iter().map(|length| text(*length)).collect(),
        vec![text(equal); tokens.div_ceil(equal)],
    ];
    let rates = rounds(embedder, size, &sets);
    println!("\n{} texts of 5 to {most} tokens, beside texts of {equal} tokens", various.len());
    println!("  {:10.0} tokens/s   {}", median(rates[0].clone()), ratio(&rates[0], &rates[1]));
}

/// From few texts to many, as a stream: time for each, and memory.
fn numbers(embedder: &Embedder, size: &Size) {
    println!(
        "\na tiny model, from few texts to many of 5 to 20 tokens: tokens a second, beside the first"
    );
    let mut first = None;
    let mut texts = size.texts[0];
    while texts <= size.texts[1] {
        let mut rates = Vec::new();
        // What is short is measured as long as what is long.
        let repeats = (size.texts[1] / texts).clamp(1, 5);
        for _ in 0..repeats {
            let start = Instant::now();
            rates.push(streamed(embedder, texts) as f64 / start.elapsed().as_secs_f64());
        }
        let rate = median(rates);
        let beside = rate / *first.get_or_insert(rate);
        let memory = resident_memory("self")
            .map_or("unknown".into(), |bytes| format!("{} MiB", bytes >> 20));
        println!("  {texts:8} texts {rate:10.0}   {beside:.2}×   memory {memory}");
        texts *= 10;
    }
}

/// Runs so many texts; their tokens.
fn streamed(embedder: &Embedder, texts: usize) -> usize {
    let mut left = texts;
    let mut random = fastrand::Rng::with_seed(11);
    let source = move |most: usize| {
        let now = most.min(left);
        left -= now;
        let texts: Vec<Option<String>> =
            (0..now).map(|_| Some(text(random.usize(5..=20)))).collect();
        Ok::<_, Error>((now > 0).then_some(texts))
    };
    let mut tokens = 0;
    let take = |rows: WindowRows<Vec<Option<String>>, Vec<f32>>| {
        tokens += rows.tokens.iter().sum::<usize>();
        Ok(())
    };
    let job = Job::new(embedder, EmbedOptions::default());
    stream(&job, source, take, |_| true).unwrap();
    tokens
}
