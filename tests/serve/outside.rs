//! Tests `vectile serve` under difficult conditions: few open files, many idle clients, no right to write, and a log
//! that nobody reads.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::support::{ADAPTER, fixture, lacks, vectile};

const MODEL: &str = "bert_mean_norm";
/// Number of connections that the tests open when they want many.
const MANY: usize = 10_000;

/// Sends a request on an open connection, and returns the response with its head.
fn ask(mut stream: &TcpStream, head: &str, body: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let text = format!("{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    // A server that refuses the connection may close it early, so errors of writing are ignored.
    let _ = stream.write_all(text.as_bytes());
    let mut reader = BufReader::new(stream);
    let (mut said, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return said;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        said += &line;
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    said + &String::from_utf8(body).unwrap()
}

/// Returns the response of the embedding route on a new connection.
fn embed(address: SocketAddr) -> String {
    let stream = TcpStream::connect(address).unwrap();
    let said = ask(&stream, "POST /embed", r#"{"inputs":"a cat"}"#);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    said.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn a_server_with_few_open_files_refuses_clients_and_keeps_working() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_vectile"));
    command.env(ADAPTER, "cpu").env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let program = Program::start_as(command, &[fixture(MODEL)], &[]);
    let before = embed(program.address());
    let idle: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(program.address()).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let busy = program.processor_time().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let busy = program.processor_time().unwrap() - busy;
    assert!(busy < Duration::from_millis(300), "an idle server was busy for {busy:?} of a second");
    // The server keeps the first connections open. It has refused later ones with an answer, or they wait in the
    // backlog of the system.
    let first = ask(&idle[0], "GET /health/live", "");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let refused = ask(&idle[40], "GET /health/live", "");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too_many_connections"));
    drop(idle);
    let since = Instant::now();
    loop {
        let stream = TcpStream::connect(program.address()).unwrap();
        if ask(&stream, "GET /health/live", "").starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "the server stays full");
    }
    assert_eq!(embed(program.address()), before);
    let log = program.log();
    let warned = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert!(warned("cannot accept connections") <= 1, "{log:?}");
}

#[test]
fn ten_thousand_idle_connections_cost_little_memory() {
    let allowed = rlimit::increase_nofile_limit(2 * MANY as u64).unwrap() as usize;
    let many = MANY.min(allowed.saturating_sub(1000));
    if many < MANY {
        lacks(&format!("the system allows {allowed} open files, so only {many} connections open"));
    }
    let mut command = vectile();
    command.env(ADAPTER, "cpu");
    let maximum = many.to_string();
    let args = ["--max-connections", &maximum, "--header-timeout", "300"];
    let program = Program::start_as(command, &[fixture(MODEL)], &args);
    let expected = embed(program.address());
    let before = program.resident().unwrap();
    let since = Instant::now();
    let idle: Vec<TcpStream> =
        (0..many - 1).map(|_| TcpStream::connect(program.address()).unwrap()).collect();
    // Each of these clients has sent the beginning of a request, so that the server holds a buffer for it.
    idle.iter().for_each(|mut stream| stream.write_all(b"GET /").unwrap());
    let asked = Instant::now();
    assert_eq!(embed(program.address()), expected);
    let answered = asked.elapsed();
    let each = (program.resident().unwrap().saturating_sub(before)) as usize / many;
    println!(
        "{many} connections in {:?}, {each} bytes each; answer in {answered:?}",
        since.elapsed()
    );
    assert!(each < 32 << 10, "{each} bytes for each connection");
    // When the server has noticed that the client of `embed` is gone, one more connection is possible. The client after
    // that one is refused.
    let since = Instant::now();
    let last = loop {
        let last = TcpStream::connect(program.address()).unwrap();
        if ask(&last, "GET /health/live", "").starts_with("HTTP/1.1 200") {
            break last;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "no place becomes free");
    };
    let beyond = TcpStream::connect(program.address()).unwrap();
    let refused = ask(&beyond, "GET /health/live", "");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop((idle, last));
    let since = Instant::now();
    while program.open_files().unwrap() > 100 {
        assert!(since.elapsed() < Duration::from_secs(20), "closed connections stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(embed(program.address()), expected);
}

/// Returns the name, size, mode and modification time of every file below a directory.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let facts = std::fs::symlink_metadata(&path).unwrap();
        let (mode, changed) = (facts.permissions().mode(), facts.modified().unwrap());
        found.push(format!("{} {} {mode:o} {changed:?}", path.display(), facts.len()));
        if facts.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The program, its model and its working directory belong to another user and cannot be written. No home directory
/// exists.
#[test]
fn an_unprivileged_user_serves_from_a_read_only_directory() {
    let base = tempfile::tempdir().unwrap();
    set_mode(base.path(), 0o755);
    let (program, model) = (base.path().join("vectile"), base.path().join("model"));
    let built = Path::new(env!("CARGO_BIN_EXE_vectile"));
    if std::fs::hard_link(built, &program).is_err() {
        std::fs::copy(built, &program).unwrap();
        set_mode(&program, 0o555);
    }
    let copied = Command::new("cp").arg("-r").arg(fixture(MODEL)).arg(&model).status().unwrap();
    assert!(copied.success());
    let found = Command::new("chmod").args(["-R", "a-w,a+rX"]).arg(&model).status().unwrap();
    assert!(found.success());
    set_mode(base.path(), 0o555);
    let before = listing(base.path());

    let mut command = Command::new(&program);
    command.current_dir(base.path()).env_clear().env("HOME", "/nonexistent");
    command.env(ADAPTER, std::env::var_os(ADAPTER).unwrap_or_else(|| "gpu".into()));
    for kept in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    // Only the superuser can run the program as another user. Any other user cannot write to the directory either.
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if is_root {
        command.uid(65534).gid(65534);
    }
    if !crate::support::have_adapter() {
        return;
    }
    let served = Program::start_as(command, std::slice::from_ref(&model), &[]);
    let said = embed(served.address());
    let elsewhere = Program::start(&[fixture(MODEL)], &[]);
    assert_eq!(said, embed(elsewhere.address()));
    let log = served.log();
    assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("panic")), "{log:?}");
    drop(served);
    let after = listing(base.path());
    set_mode(base.path(), 0o755);
    assert_eq!(before, after, "the program wrote into its directory");
}

/// Like `vectile serve 2>&1 | head -n 5`: nobody reads the log any more.
#[test]
fn a_server_whose_log_is_closed_keeps_answering() {
    let mut command = vectile();
    command.env(ADAPTER, "cpu").args(["serve", "--port", "0", "--model"]).arg(fixture(MODEL));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut address, mut said) = (None, Vec::new());
    let address: SocketAddr = loop {
        let Some(Ok(line)) = lines.next() else { panic!("it ended: {said:?}") };
        if let Some((_, url)) = line.split_once("listening on http://") {
            address = Some(url.trim().parse().unwrap());
        }
        if line.contains("ready: ") {
            break address.unwrap();
        }
        said.push(line);
    };
    drop(lines);
    let first = embed(address);
    for _ in 0..20 {
        assert_eq!(embed(address), first);
    }
    let nothing = ask(&TcpStream::connect(address).unwrap(), "GET /nothing", "");
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
