//! Two HTTP clients. One keeps its connection open, and the other controls every byte that it sends.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Maximum time for a response.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A response of the server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub body: Bytes,
}

/// A connection that is kept open.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Connection { sender, host: address.to_string() })
    }

    /// Whether the connection can send another request.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.send(Method::GET, path, None, Bytes::new()).await
    }

    pub async fn post(&mut self, path: &str, body: Bytes) -> Result<Answer, String> {
        self.send(Method::POST, path, Some("application/json"), body).await
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, String> {
        let asked = async {
            let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
            if let Some(kind) = kind {
                request = request.header(CONTENT_TYPE, kind);
            }
            let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
            self.sender.ready().await.map_err(|error| error.to_string())?;
            let sent = self.sender.send_request(request).await;
            let answer = sent.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().contains_key("retry-after");
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status, retry_after, body: body.to_bytes() })
        };
        let answer = tokio::time::timeout(TIMEOUT, asked).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
    }
}

/// Returns the bytes of an embedding request.
pub fn written(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Writes all bytes to a stream.
pub async fn write(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads a whole response. A truncated response is an error.
pub async fn read(stream: &mut TcpStream) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status in {head}"))?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize =
        length.and_then(|length| length.trim().parse().ok()).ok_or("no content-length")?;
    while bytes.len() < end + length {
        more(stream, &mut bytes).await?;
    }
    let retry_after = head.contains("\r\nretry-after:");
    Ok(Answer { status, retry_after, body: bytes.split_off(end).into() })
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, stream.read_buf(bytes)).await {
        Ok(Ok(0)) => Err(format!("closed after {} bytes of an answer", bytes.len())),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{error} after {} bytes of an answer", bytes.len())),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}
