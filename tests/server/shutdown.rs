//! Tests shutdown. Accepted requests are answered, and a second signal ends the server at once.
#![cfg(all(unix, feature = "cli"))]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Client, fixture, have_adapter, lacks, texts, vectile};

/// The running program, with its lines on stderr.
struct Program {
    child: Child,
    address: SocketAddr,
    /// The program's lines on stderr after it is ready.
    log: std::thread::JoinHandle<Vec<String>>,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        Program::start_as(vectile(), args)
    }

    /// Starts the program of a command, which may set environment variables.
    fn start_as(mut command: Command, args: &[&str]) -> Self {
        command.args(["serve", "--port", "0", "--model"]).arg(fixture("bert_mean_norm"));
        command.args(args).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        let mut said = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said:?}")).unwrap();
            let message = message_of(&line);
            if let Some(at) = message.strip_prefix("listening on http://") {
                address = Some(at.trim().parse().unwrap());
            }
            if message.starts_with("ready: ") {
                break;
            }
            said.push(line);
        }
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Program { child, address: address.unwrap(), log }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the program's end, and returns its exit code and its lines on stderr.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if since.elapsed() > Duration::from_secs(60) {
                self.child.kill().unwrap();
                panic!("the program does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        (status.code(), self.log.join().unwrap())
    }
}

/// Returns the message of a log line, in either format.
fn message_of(line: &str) -> String {
    let json: Option<Value> = serde_json::from_str(line).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    message.unwrap_or(line).to_owned()
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[test]
fn accepted_requests_are_answered_after_a_signal() {
    if !have_adapter() {
        return;
    }
    let program = Program::start(&["--log-format", "json"]);
    let body = json!({ "input": texts(300) }).to_string();
    let mut idle = Client::connect(program.address);
    idle.send("GET", "/health/live", &[], b"").ok();
    let mut waits = Client::connect(program.address);
    waits.write("POST", "/v1/embeddings", &JSON, body.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    program.signal("TERM");
    let since = Instant::now();
    // The server reports that it is not ready. The connection then closes.
    std::thread::sleep(Duration::from_millis(50));
    let ready = idle.send("GET", "/health/ready", &[], b"");
    assert_eq!(ready.error(503), "shutting_down");
    assert_eq!(ready.header("connection"), Some("close"));
    let answer = waits.answer().unwrap();
    assert_eq!(answer.ok()["data"].as_array().unwrap().len(), 300);
    let answered = since.elapsed();
    assert!(std::net::TcpStream::connect(program.address).is_err(), "the server still listens");
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log:?}");
    assert!(since.elapsed() < answered + Duration::from_secs(5));
    // Every line of the log is a JSON object, and requests have ids.
    let objects: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered = objects.iter().find(|object| object["status"] == 200).unwrap();
    assert!(answered["span"]["id"].is_string(), "{answered}");
}

/// Sends requests for more texts than the server embeds in seconds. Returns the clients, because the server does not
/// embed the texts of a client that has disconnected.
fn send_requests(program: &Program) -> Vec<Client> {
    let body = json!({ "input": texts(2000) }).to_string();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(program.address);
        client.write("POST", "/v1/embeddings", &JSON, body.as_bytes()).unwrap();
        waiting.push(client);
    }
    std::thread::sleep(Duration::from_millis(300));
    waiting
}

/// Sends two different signals, because two equal ones may be merged before a busy process sees them.
fn signal_twice(program: &Program) {
    program.signal("INT");
    std::thread::sleep(Duration::from_millis(100));
    program.signal("TERM");
}

#[test]
fn a_second_signal_ends_at_once() {
    if !have_adapter() {
        return;
    }
    let program = Program::start(&[]);
    let _waiting = send_requests(&program);
    signal_twice(&program);
    let since = Instant::now();
    let (code, log) = program.end();
    assert_eq!(code, Some(1), "{log:?}");
    // Finishing the accepted requests would take longer than this.
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(log.iter().any(|line| line.contains("second signal")), "{log:?}");
}

/// The exit handlers of a Vulkan driver free memory that threads still use while they compute.
#[test]
fn exit_handlers_do_not_run_while_threads_compute() {
    if !have_adapter() {
        return;
    }
    if !cfg!(target_os = "linux") {
        return lacks("only Linux has LD_PRELOAD, which adds an exit handler to the program");
    }
    let library = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow_exit.so");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/slow_exit.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    let Ok(compiled) = compiler.output() else {
        return lacks("there is no C compiler `cc`, so no exit handler can be slow");
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let program = || {
        let mut command = vectile();
        command.env("LD_PRELOAD", &library);
        command
    };
    let since = Instant::now();
    let second_signal = Program::start_as(program(), &[]);
    let _waiting = send_requests(&second_signal);
    signal_twice(&second_signal);
    let (code, log) = second_signal.end();
    assert_eq!(code, Some(1), "{log:?}");
    let drain = Program::start_as(program(), &["--drain", "0.1"]);
    let _waiting = send_requests(&drain);
    drain.signal("TERM");
    let (code, log) = drain.end();
    assert_eq!(code, Some(1), "{log:?}");
    assert!(since.elapsed() < Duration::from_secs(30), "an exit handler ran");
}

#[test]
fn requests_that_exceed_the_drain_time_are_abandoned() {
    if !have_adapter() {
        return;
    }
    let program = Program::start(&["--drain", "0.1"]);
    let body = json!({ "input": texts(300) }).to_string();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(program.address);
        client.write("POST", "/v1/embeddings", &JSON, body.as_bytes()).unwrap();
        waiting.push(client);
    }
    std::thread::sleep(Duration::from_millis(300));
    program.signal("TERM");
    let (code, log) = program.end();
    assert_eq!(code, Some(1), "{log:?}");
    assert!(log.iter().any(|line| line.contains("unanswered")), "{log:?}");
}

#[test]
fn an_idle_server_ends_quickly() {
    if !have_adapter() {
        return;
    }
    let program = Program::start(&[]);
    let mut idle = Client::connect(program.address);
    idle.send("GET", "/health/live", &[], b"").ok();
    let fresh = Client::connect(program.address);
    let since = Instant::now();
    program.signal("TERM");
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log:?}");
    assert!(since.elapsed() < Duration::from_secs(3));
    drop(fresh);
}

#[test]
fn a_missing_model_is_a_user_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vectile"));
    command.args(["serve", "--port", "0", "--model", "no/such/model/here"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/model/here"));
}
