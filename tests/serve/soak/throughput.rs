//! Compares the throughput of the saturated server with direct calls of the library. Both run the same model and
//! texts, in turns.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vectile::{Embedder, ModelFiles};

use super::pace::{closed, with_status};
use super::{Found, Scale, bodies, must, texts};
use crate::program::Program;
use crate::support::{adapter, fixture};

/// Minimum throughput of the server as a share of the library's.
const SHARE: f64 = 0.9;
const WORKERS: usize = 8;
const TEXTS: usize = 32;
const WORDS: usize = 14;

pub async fn check(scale: &Scale, model: Option<PathBuf>) -> Found {
    let model = model.unwrap_or_else(|| fixture("bert_mean_norm"));
    let files = ModelFiles::from_directory(&model).map_err(|error| error.to_string())?;
    let embedder = Embedder::builder(files)
        .or_adapter(adapter())
        .build()
        .await
        .map_err(|error| error.to_string())?;
    let program = Program::start(&[model], &[]);
    let bodies = bodies(WORKERS, TEXTS, WORDS);
    let own: Vec<String> = (0..WORKERS as u64).flat_map(|seed| texts(TEXTS, WORDS, seed)).collect();
    let time = Duration::from_secs_f64(scale.seconds);
    let mut ratios = Vec::new();
    // The first round warms up both, and is not counted.
    for round in 0..=scale.rounds {
        let served = async {
            let start = Instant::now();
            let done = with_status(&closed(program.address(), &bodies, WORKERS, time).await?, 200);
            Ok::<_, String>((done.len() * TEXTS) as f64 / start.elapsed().as_secs_f64())
        };
        let called = async {
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < time {
                embedder.embed(&own).await.map_err(|error| error.to_string())?;
                count += own.len();
            }
            Ok::<_, String>(count as f64 / start.elapsed().as_secs_f64())
        };
        // The order alternates between rounds.
        let (server, library) = if round % 2 == 0 {
            let server = served.await?;
            (server, called.await?)
        } else {
            let library = called.await?;
            (served.await?, library)
        };
        if round > 0 {
            println!("server {server:.1} texts/s, library {library:.1}: {:.3}", server / library);
            ratios.push(server / library);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("median {median:.3}");
    must(!scale.times || median >= SHARE, || {
        format!("less than {SHARE} of the library's throughput")
    })
}
