//! A server in the place of a forge.

use std::sync::Arc;

use parking_lot::Mutex as Lock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::api::Api;
use crate::docker::secret::Secret;
use crate::registry::HostConfig;

/// Requests with their authorization, in the order in which they came.
pub(super) type Seen = Arc<Lock<Vec<String>>>;

/// A server that answers requests by their first line.
pub(super) async fn serve(answer: fn(&str) -> (u16, String)) -> (Url, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let line = request.lines().next().unwrap_or_default();
            let line = line.trim_end_matches(" HTTP/1.1").to_owned();
            assert!(request.contains("authorization: Bearer t0ken"), "{request}");
            let (status, body) = answer(&line);
            noted.lock().push(line);
            let reply = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).await.ok();
        }
    });
    (url.parse().unwrap(), seen)
}

/// The API at a URL, with the token that the server wants.
pub(super) fn api(url: Url) -> Api {
    let http = HostConfig::new("127.0.0.1").http(true).unwrap();
    Api::new(http, url, Secret::new("t0ken"))
}
