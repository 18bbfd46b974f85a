//! Measures how the cost of a text depends on its length, on the lengths of other texts in the run, and on their
//! number. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use support::{build, fixture, on_cpu, read_json, resident_memory, test_model};
use vectile::stream::{Job, WindowRows, stream};
use vectile::{EmbedOptions, Embedder, Error, ModelFiles, block_on};

/// The sizes of the bench: full under `cargo bench`, tiny under `cargo test`.
struct Size {
    rounds: usize,
    /// The number of tokens of a measured run of the model.
    tokens: usize,
    /// The number of texts of the smallest run of the tiny model.
    fewest_texts: usize,
    /// The number of texts of the largest run of the tiny model.
    most_texts: usize,
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let size = if whole {
        Size { rounds: 5, tokens: 8192, fewest_texts: 1000, most_texts: 1_000_000 }
    } else {
        Size { rounds: 1, tokens: 600, fewest_texts: 10, most_texts: 100 }
    };
    let tiny = fixture("bert_mean_norm");
    let model = test_model().unwrap_or_else(|| tiny.clone());
    let Some(embedder) = load(&model) else { return };
    println!("adapter: {}", embedder.adapter());
    println!("{} in {}, vectile {}", name(&model), embedder.precision(), env!("CARGO_PKG_VERSION"));
    lengths(&embedder, &size);
    mixed(&embedder, &size);
    drop(embedder);
    threads(&model, &size);
    if let Some(embedder) = load(&tiny) {
        numbers(&embedder, &size);
    }
}

fn name(model: &Path) -> String {
    model.file_name().unwrap().to_string_lossy().into_owned()
}

/// Loads the model, with the length limit raised to the model's number of positions.
fn load(model: &Path) -> Option<Embedder> {
    load_with(model, None)
}

/// Loads the model like [`load`], with a number of threads for the CPU or the default number.
fn load_with(model: &Path, threads: Option<usize>) -> Option<Embedder> {
    let directory = tempfile::tempdir().unwrap();
    copy(model, directory.path());
    let file = directory.path().join("sentence_bert_config.json");
    let config: serde_json::Value = read_json(&model.join("config.json"));
    let most = config["max_position_embeddings"].as_u64().unwrap();
    let limit = serde_json::json!({ "max_seq_length": most, "do_lower_case": false });
    std::fs::write(file, limit.to_string()).unwrap();
    let files = ModelFiles::from_directory(directory.path()).unwrap();
    let builder = Embedder::builder(files);
    build(match threads {
        Some(threads) => builder.threads(threads),
        None => builder,
    })
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

/// Returns a text of exactly this many tokens, including special tokens. Every letter is one token in any tokenizer.
fn text(tokens: usize) -> String {
    vec!["a"; tokens - 2].join(" ")
}

/// Returns the rate at which the texts are embedded, in tokens per second.
fn rate(embedder: &Embedder, texts: &[String]) -> f64 {
    let start = Instant::now();
    let embedded = block_on(embedder.embed(texts)).unwrap();
    embedded.tokens as f64 / start.elapsed().as_secs_f64()
}

/// Returns the rates of each set of texts. Each round measures every set once.
fn rounds(embedder: &Embedder, size: &Size, sets: &[Vec<String>]) -> Vec<Vec<f64>> {
    let runs: Vec<(&Embedder, &[String])> = sets.iter().map(|set| (embedder, &**set)).collect();
    rounds_of(&runs, size)
}

/// Returns the rates of each pair of a model and its texts. Each round measures every pair once.
fn rounds_of(runs: &[(&Embedder, &[String])], size: &Size) -> Vec<Vec<f64>> {
    let mut rates = vec![Vec::new(); runs.len()];
    // The first round is a warm-up.
    for round in 0..=size.rounds {
        for (rates, (embedder, set)) in rates.iter_mut().zip(runs) {
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

/// Returns the median, minimum and maximum of the ratio of two rates of the same round.
fn ratio(own: &[f64], base: &[f64]) -> String {
    let mut ratios: Vec<f64> = own.iter().zip(base).map(|(own, base)| own / base).collect();
    ratios.sort_by(f64::total_cmp);
    let (minimum, maximum) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2}× ({minimum:.2} to {maximum:.2})", median(ratios))
}

/// Times sets of texts; all texts of a set have one length. All work except attention costs the same for each token.
fn lengths(embedder: &Embedder, size: &Size) {
    let most = embedder.max_seq_length().unwrap();
    let lengths: Vec<usize> =
        [16, 32, 64, 128, 256, 512].into_iter().filter(|length| *length <= most).collect();
    let sets: Vec<Vec<String>> =
        lengths.iter().map(|n| vec![text(*n); (size.tokens / n).max(1)]).collect();
    let rates = rounds(embedder, size, &sets);
    println!("\ntexts of one length: tokens per second, relative to the first");
    for (length, rate) in lengths.iter().zip(&rates) {
        let beside = ratio(rate, &rates[0]);
        println!("  {length:4} tokens {:10.0}   {beside}", median(rate.clone()));
    }
}

/// Compares texts of mixed lengths, from 5 tokens to the model's limit, with texts of one length. Both sets have about
/// the same number of tokens in total.
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
    // With this length, attention costs the same in both sets: a token attends to the same number of tokens on average.
    let equal = squares / tokens;
    let sets = [
        various.iter().map(|length| text(*length)).collect(),
        vec![text(equal); tokens.div_ceil(equal)],
    ];
    let rates = rounds(embedder, size, &sets);
    println!(
        "\n{} texts of 5 to {most} tokens, relative to texts of {equal} tokens",
        various.len()
    );
    println!("  {:10.0} tokens/s   {}", median(rates[0].clone()), ratio(&rates[0], &rates[1]));
}

/// Compares one thread with several on passages. Only models on the CPU have threads of their own.
fn threads(model: &Path, size: &Size) {
    if !on_cpu() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let counts: Vec<usize> = [1, 2, 4, 8, 16].into_iter().filter(|n| *n <= cores).collect();
    let models: Vec<Embedder> =
        counts.iter().map(|threads| load_with(model, Some(*threads)).unwrap()).collect();
    let passages = vec![text(200); (size.tokens / 200).max(1)];
    let runs: Vec<(&Embedder, &[String])> =
        models.iter().map(|model| (model, &*passages)).collect();
    let rates = rounds_of(&runs, size);
    println!("\ntexts of 200 tokens: tokens per second, relative to one thread");
    for (threads, rate) in counts.iter().zip(&rates) {
        let beside = ratio(rate, &rates[0]);
        println!("  {threads:4} threads {:10.0}   {beside}", median(rate.clone()));
    }
}

/// Streams growing numbers of texts, and prints the rate and the memory of each run.
fn numbers(embedder: &Embedder, size: &Size) {
    println!(
        "\na tiny model, from few texts to many of 5 to 20 tokens: tokens per second, relative to the first"
    );
    let mut first = None;
    let mut texts = size.fewest_texts;
    while texts <= size.most_texts {
        let mut rates = Vec::new();
        // Short runs are repeated, so that all take about the same time.
        let repeats = (size.most_texts / texts).clamp(1, 5);
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

/// Streams this many texts, and returns the number of their tokens.
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
