//! Replays every input in `fuzz/corpus` and `fuzz/regressions`, without libFuzzer and on the stable compiler.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The time that a target may take for one input. `scripts/fuzz.sh` has the same limit.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns the files of a target's corpus and of its regressions.
pub fn inputs(target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = Vec::new();
    for group in ["corpus", "regressions"] {
        let Ok(entries) = std::fs::read_dir(root.join(group).join(target)) else { continue };
        inputs.extend(entries.map(|entry| entry.unwrap().path()));
    }
    inputs.sort();
    inputs
}

/// Runs a target on each of its inputs. Fails if the target panics or takes too long.
pub fn replay(name: &str, target: fn(&[u8])) {
    let inputs = inputs(name);
    assert!(inputs.len() >= 10, "{name} has only {} inputs", inputs.len());
    let (sender, receiver) = mpsc::channel();
    let count = inputs.len();
    std::thread::spawn(move || {
        // The first run also reads the fixtures, so its time is not measured.
        target(&std::fs::read(&inputs[0]).unwrap());
        for input in inputs {
            let data = std::fs::read(&input).unwrap();
            let started = Instant::now();
            sender.send((input.clone(), None)).unwrap();
            target(&data);
            sender.send((input, Some(started.elapsed()))).unwrap();
        }
    });
    let (mut done, mut running) = (0, None);
    while done < count {
        match receiver.recv_timeout(LIMIT * 12) {
            Ok((_, Some(took))) => {
                assert!(took < LIMIT, "{running:?} took {took:?}");
                done += 1;
            }
            Ok((input, None)) => running = Some(input),
            Err(problem) => panic!("{name}: {running:?}: {problem}"),
        }
    }
}
