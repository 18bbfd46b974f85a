//! Compares an adapter with the CPU, whose kernels share no code with the shaders: on difficult texts, and on random
//! batches of every family.

use std::num::NonZeroUsize;

use vectile::{
    AdapterChoice, DtypeRequest, Embedder, HalfFallback, ModelFiles, TextModel, block_on,
};

use crate::support::{build, cosine, directories, fixture, lacks_shaders, model_files};

/// The number of difficult texts.
const COUNT: usize = 200;

/// Texts and parts of texts that are difficult for tokenizers and kernels.
const PARTS: [&str; 40] = [
    "",
    " ",
    "\t\n\r",
    "\0",
    "\u{feff}",
    "\u{fffd}",
    "\u{200b}\u{200d}\u{2060}",
    "\u{202e}abc\u{202c}",
    "a\u{301}\u{327}\u{336}",
    "\u{e9}e\u{301}",
    "\u{130}i\u{131}I",
    "\u{fb03} \u{2167} \u{bd}",
    "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{30c6}\u{30ad}\u{30b9}\u{30c8}",
    "\u{d55c}\u{ad6d}\u{c5b4}",
    "\u{645}\u{631}\u{62d}\u{628}\u{627}",
    "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}",
    "\u{e44}\u{e17}\u{e22}",
    "\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{10ffff}",
    "[CLS]",
    "[SEP] [PAD] [MASK] [UNK]",
    "<s></s><pad><unk><mask>",
    "<|endoftext|><|im_start|>",
    "##ing ##",
    "\u{2581}\u{2581}a",
    "\u{120}the",
    "http://example.org/?a=b&c=%20#d",
    "1234567890.12e-34",
    "-0.0 NaN inf",
    "\\u0000 \\x00",
    "{\"a\": [1, 2]}",
    "<script>alert(1)</script>",
    "'; DROP TABLE t; --",
    "../../etc/passwd",
    "\u{1b}[31m",
    "the quick brown fox",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "IiIiIiIi0OoO0O",
    "?!?!...---",
];

/// Returns each part alone, and then repetitions and combinations of parts. They are the same in every run.
fn difficult_texts() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut texts: Vec<String> = PARTS.map(str::to_owned).to_vec();
    while texts.len() < COUNT {
        let parts = (0..random.usize(2..6)).map(|_| PARTS[random.usize(0..PARTS.len())]);
        let joined = parts.collect::<Vec<_>>().join(["", " ", "\n"][random.usize(0..3)]);
        let times = [1, 1, 1, 2, 30, 200][random.usize(0..6)];
        texts.push(joined.repeat(times));
    }
    texts
}

const ARCHITECTURES: [&str; 4] = ["distilbert", "modernbert", "qwen3", "xlm_roberta"];

#[test]
fn difficult_texts_have_the_rows_of_the_cpu_in_four_architectures() {
    if lacks_shaders() {
        return;
    }
    let texts = difficult_texts();
    for architecture in ARCHITECTURES {
        let name = format!("families/{architecture}");
        let of = |dtype| {
            let files = model_files(&name);
            Embedder::builder(files).dtype(dtype).half_fallback(HalfFallback::Packed)
        };
        let on_cpu = of(DtypeRequest::Float32).adapter(AdapterChoice::Cpu);
        let expected = block_on(block_on(on_cpu.build()).unwrap().embed(&texts)).unwrap();
        for (dtype, least) in [(DtypeRequest::Float32, 0.999_99), (DtypeRequest::Float16, 0.999)] {
            let Some(embedder) = build(of(dtype)) else { return };
            let rows = block_on(embedder.embed(&texts)).unwrap();
            assert_eq!((rows.len(), rows.dim), (texts.len(), expected.dim));
            let mut worst = (1.0, 0);
            for (at, (row, expected)) in rows.rows().zip(expected.rows()).enumerate() {
                assert!(row.iter().all(|value| value.is_finite()), "{name}: {:?}", texts[at]);
                let cosine = cosine(row, expected);
                if cosine < worst.0 {
                    worst = (cosine, at);
                }
            }
            eprintln!(
                "{name}, {}: smallest cosine {:.8}",
                embedder.precision().activations,
                worst.0
            );
            assert!(worst.0 >= least, "{name} {dtype:?}: {} for {:?}", worst.0, texts[worst.1]);
        }
    }
}

/// `VECTILE_RANDOM_BATCHES` sets the number of batches of each family.
#[test]
fn every_family_agrees_with_the_cpu_on_random_batches() {
    if lacks_shaders() {
        return;
    }
    let count = std::env::var("VECTILE_RANDOM_BATCHES").map_or(1, |count| count.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let only = std::env::var("VECTILE_FAMILY").unwrap_or_default();
    let (mut rows, mut largest) = (0, 0.0f64);
    for name in directories("families", "", 13) {
        if !name.contains(&only) {
            continue;
        }
        let files = ModelFiles::from_directory(fixture("families").join(&name)).unwrap();
        let paranoid =
            Embedder::builder(files).dtype(DtypeRequest::Float32).paranoid(NonZeroUsize::MIN);
        let Some(embedder) = build(paranoid) else { return };
        for _ in 0..count {
            let texts: Vec<String> = (0..random.usize(1..9))
                .map(|_| {
                    let words = random.usize(0..60);
                    (0..words)
                        .map(|_| PARTS[random.usize(0..PARTS.len())])
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            block_on(embedder.embed(&texts)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let found = embedder.rechecked().unwrap();
        assert!(found.cpu.is_some() && found.rows == found.checked, "{name}: {found}");
        rows += found.checked;
        largest = largest.max(found.largest_distance);
    }
    eprintln!("{rows} rows agree with the CPU; the largest distance is {largest:.1e}");
}
