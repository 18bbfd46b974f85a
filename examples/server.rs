//! Starts a server inside this program, requests a vector from the server, and stops it.
//!
//! ```sh
//! cargo run --release --example server -- .vectile/models/all-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example serves a tiny model from the tests, whose weights are random.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use vectile::server::{Served, Server, ServerOptions};
use vectile::{Embedder, ModelFiles, block_on};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().nth(1))
}

/// Serves the model in `directory` until it has answered one request.
pub fn run(directory: Option<String>) -> Result<(), Box<dyn std::error::Error>> {
    let directory = directory.unwrap_or("tests/fixtures/bert_mean_norm".to_owned());
    // With port 0, the operating system chooses a free port.
    let server = Server::bind(ServerOptions { port: 0, ..ServerOptions::default() })?;
    let (address, stop) = (server.address(), server.stopper());

    let load = move || {
        let embedder = block_on(Embedder::builder(ModelFiles::from_directory(directory)?).build())?;
        Ok::<_, vectile::Error>(vec![Served::embedder("my-model", Arc::new(embedder))])
    };
    let (sender, ready) = mpsc::channel();
    let serving = thread::spawn(move || server.run(load, move |_| sender.send(()).unwrap_or(())));
    // An error here means that loading failed. `serving` then returns the reason.
    if ready.recv().is_ok() {
        let answer = ask(address)?;
        println!("http://{address}: {}", answer.lines().next().unwrap_or_default());
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"embedding\""));
        stop.stop();
    }
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let body = r#"{"model": "my-model", "input": "A cat sat on the roof."}"#;
    let length = body.len();
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n")?;
    write!(stream, "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
