#![allow(clippy::unwrap_used)]

mod server;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use server::{COMMIT, Faults, Hub, WANTED, files, hub, sha256, weights};

fn options(endpoint: &str, cache: &Path) -> HubOptions {
    HubOptions {
        endpoint: Some(endpoint.into()),
        cache_dir: Some(cache.into()),
        token: Some("hf_aSecretTokenOfTheTests123".into()),
        ..HubOptions::default()
    }
}

fn revision(options: &HubOptions, revision: &str) -> HubOptions {
    HubOptions { revision: Some(revision.into()), ..options.clone() }
}

fn message(options: &HubOptions) -> String {
    fetch("owner/name", options).unwrap_err().to_string()
}

fn requests(hub: &Hub, of: &str) -> Vec<String> {
    let requests = hub.seen.requests.lock().unwrap();
    requests.iter().filter(|request| request.contains(of)).cloned().collect()
}

#[test]
fn only_needed_files_are_fetched_and_cached() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults::default());
    let snapshot = fetch("owner/name", &options(&hub.endpoint, cache.path())).unwrap();
    let files_there = ModelFiles::from_directory(&snapshot).unwrap();
    for (name, text) in &files()[..WANTED] {
        assert_eq!(files_there.read(name, 10_000).unwrap().unwrap(), *text, "{name}");
    }
    for (name, _) in &files()[WANTED..] {
        assert!(!files_there.exists(name).unwrap(), "{name}");
    }
    // Nothing listens on port 1, so the cache is used.
    let unreachable = options("http://127.0.0.1:1", cache.path());
    assert_eq!(fetch("owner/name", &unreachable).unwrap(), snapshot);
    let message = message(&revision(&unreachable, "v2"));
    assert!(message.contains("v2 is not in the cache"), "{message}");
}

#[test]
fn a_tag_and_a_commit_are_revisions() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults::default());
    let main = fetch("owner/name", &options(&hub.endpoint, cache.path())).unwrap();
    let tagged =
        fetch("owner/name", &revision(&options(&hub.endpoint, cache.path()), "v1")).unwrap();
    assert_eq!(tagged, main);
    let before = hub.seen.connections.load(Ordering::SeqCst);
    let commit =
        fetch("owner/name", &revision(&options(&hub.endpoint, cache.path()), COMMIT)).unwrap();
    assert_eq!(commit, main);
    assert_eq!(
        hub.seen.connections.load(Ordering::SeqCst),
        before,
        "a cached commit was asked for"
    );
}

/// See ai-dynamo/modelexpress#128, deepghs/imgutils#130 and #135. Offline mode sent requests to the Hub, or
/// failed without an explanation.
#[test]
fn offline_mode_opens_no_socket() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults::default());
    let online = options(&hub.endpoint, cache.path());
    let offline = HubOptions { offline: true, ..online.clone() };
    let problem = message(&offline);
    assert!(
        problem.contains("not in the cache") && problem.contains("HF_HUB_OFFLINE"),
        "{problem}"
    );
    assert_eq!(hub.seen.connections.load(Ordering::SeqCst), 0);
    let snapshot = fetch("owner/name", &online).unwrap();
    let before = hub.seen.connections.load(Ordering::SeqCst);
    assert_eq!(fetch("owner/name", &offline).unwrap(), snapshot);
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let problem = message(&offline);
    assert!(problem.contains("lacks model.safetensors"), "{problem}");
    assert_eq!(hub.seen.connections.load(Ordering::SeqCst), before);
}

/// See huggingface/huggingface_hub#1099. A cached model must load without a network.
#[test]
fn a_silent_hub_delays_a_cached_model_by_seconds_only() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot =
        fetch("owner/name", &options(&hub(Faults::default()).endpoint, cache.path())).unwrap();
    let silent = hub(Faults { silent: true, ..Faults::default() });
    let started = Instant::now();
    assert_eq!(fetch("owner/name", &options(&silent.endpoint, cache.path())).unwrap(), snapshot);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

/// Returns the ranges that the requests for the weights named.
fn ranges(hub: &Hub) -> Vec<String> {
    let gets = requests(hub, "model.safetensors");
    gets.iter()
        .filter(|r| r.starts_with("GET"))
        .map(|r| r.rsplit(' ').next().unwrap().into())
        .collect()
}

/// See huggingface/candle#562 and huggingface/huggingface_hub#4196. Large downloads started again from the
/// beginning.
#[test]
fn a_download_that_is_cut_is_resumed_where_it_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults { cut: Some((2000, 2)), ..Faults::default() });
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let mut options = options(&hub.endpoint, cache.path());
    options.on_progress = Some(Arc::new(move |progress| heard.lock().unwrap().push(progress)));
    let snapshot = fetch("owner/name", &options).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert_eq!(ranges(&hub), ["Some(0)", "Some(2000)", "Some(4000)"]);
    let told = told.lock().unwrap();
    let total: usize = files()[..WANTED].iter().map(|(_, bytes)| bytes.len()).sum();
    let last = told.last().unwrap();
    assert_eq!((last.done, last.total), (total as u64, total as u64));
    assert!(told.iter().all(|progress| progress.done <= progress.total));
    assert!(told.iter().any(|progress| (2000..5000).contains(&progress.done)), "{told:?}");
}

/// See oobabooga/textgen#3640 and ROCm/FastFlowLM#618. The next run of the program must resume the download
/// too.
#[test]
fn a_download_that_ended_is_resumed_by_the_next_one() {
    let cache = tempfile::tempdir().unwrap();
    let failing = hub(Faults { cut: Some((0, usize::MAX)), ..Faults::default() });
    let problem = message(&options(&failing.endpoint, cache.path()));
    assert!(problem.contains("stopped at 0 of 5000 bytes"), "{problem}");
    assert!(problem.contains("load the model again to resume it"), "{problem}");
    let blobs = cache.path().join("models--owner--name/blobs");
    let part = blobs.join(format!("{}.incomplete", sha256(&weights())));
    let mut file = std::fs::OpenOptions::new().append(true).open(&part).unwrap();
    file.write_all(&weights()[..1500]).unwrap();
    let hub = hub(Faults::default());
    let snapshot = fetch("owner/name", &options(&hub.endpoint, cache.path())).unwrap();
    assert_eq!(ranges(&hub), ["Some(1500)"]);
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert!(!part.exists());
}

#[test]
fn a_server_that_ignores_ranges_sends_the_file_again() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults { cut: Some((2000, 1)), no_ranges: true, ..Faults::default() });
    let snapshot = fetch("owner/name", &options(&hub.endpoint, cache.path())).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
}

/// See Layr-Labs/d-inference#36. A damaged file must not count as downloaded.
#[test]
fn damaged_files_and_wrong_sizes_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let damaged = hub(Faults { damaged: true, ..Faults::default() });
    let problem = message(&options(&damaged.endpoint, cache.path()));
    assert!(problem.contains("model.safetensors arrived damaged"), "{problem}");
    // The next load downloads the damaged file again.
    let sound = hub(Faults::default());
    let snapshot = fetch("owner/name", &options(&sound.endpoint, cache.path())).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    let cache = tempfile::tempdir().unwrap();
    let wrong = hub(Faults { wrong_size: true, ..Faults::default() });
    let problem = message(&options(&wrong.endpoint, cache.path()));
    assert!(problem.contains("model.safetensors"), "{problem}");
    assert!(problem.contains("5001") && problem.contains("load the model again"), "{problem}");
}

/// See huggingface/huggingface_hub#1012 and #1119, janhq/jan#6861. Errors must explain gated and private
/// models, and misspelt names.
#[test]
fn refusals_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(Faults::default());
    let options = options(&hub.endpoint, cache.path());
    for (repo, wanted, words) in [
        ("owner/gated", None, &["hf auth login", "HF_TOKEN"][..]),
        ("owner/refused", None, &["gated", "accept the model's terms"]),
        ("owner/unknown", None, &["does not exist", "check both names"]),
        ("owner/name", Some("absent"), &["absent"]),
        ("owner/name", Some("../x"), &["not a branch"]),
        ("a/b/c", None, &["not a repository name"]),
        ("../x", None, &["not a repository name"]),
        ("", None, &["not a repository name"]),
        ("owner/", None, &["not a repository name"]),
        ("models/all MiniLM", None, &["not a repository name"]),
    ] {
        let options = match wanted {
            Some(wanted) => revision(&options, wanted),
            None => options.clone(),
        };
        let message = fetch(repo, &options).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{repo}: {message}");
        }
    }
}

/// See ggml-org/llama.cpp#21677 and huggingface/huggingface_hub#3312. A limit on requests must not keep a
/// cached model from loading.
#[test]
fn a_rate_limit_does_not_keep_a_cached_model_from_loading() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot =
        fetch("owner/name", &options(&hub(Faults::default()).endpoint, cache.path())).unwrap();
    let status = Some(("429 Too Many Requests", "{}".to_owned()));
    let limited = hub(Faults { status, ..Faults::default() });
    assert_eq!(fetch("owner/name", &options(&limited.endpoint, cache.path())).unwrap(), snapshot);
}

/// See huggingface/sentence-transformers#759 and kotaro-kinoshita/yomitoku#99. The error must explain a rate
/// limit.
#[test]
fn rate_limits_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let status = Some(("429 Too Many Requests", "{}".to_owned()));
    let limited = hub(Faults { status, ..Faults::default() });
    let problem = message(&options(&limited.endpoint, cache.path()));
    assert!(
        problem.contains("refuses further requests") && problem.contains("hf auth login"),
        "{problem}"
    );
}

/// Collects everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_token_is_in_no_log_and_no_message() {
    let cache = tempfile::tempdir().unwrap();
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || written.clone())
        .finish();
    let (secret, other) = ("hf_aSecretTokenOfTheTests123", "hf_anotherTokenThatAServerEchoes");
    let body = format!(r#"{{"error": "no access with Bearer {secret} nor {other}"}}"#);
    let status = Some(("418 I'm a teapot", body));
    let echoing = hub(Faults { status, ..Faults::default() });
    // The download runs on a separate thread, so the subscriber must be the default of the whole process.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let failing = options(&echoing.endpoint, cache.path());
    let problem = message(&failing);
    fetch("owner/name", &options(&hub(Faults::default()).endpoint, cache.path())).unwrap();
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(!text.is_empty(), "nothing was logged");
    for secret in [secret, other] {
        assert!(!problem.contains(secret), "{problem}");
        assert!(!format!("{failing:?}").contains(secret));
    }
    assert!(!text.contains(secret), "{}", &text[text.find(secret).unwrap().saturating_sub(200)..]);
}
