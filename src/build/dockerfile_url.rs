//! A Dockerfile given by URL, which is fetched before the build.

use thiserror::Error;

/// The largest Dockerfile that is taken from a URL, in bytes.
pub const MAX_DOCKERFILE: usize = 2 << 20;

/// Why a Dockerfile cannot be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The server cannot be asked.
    #[error("cannot fetch the Dockerfile")]
    Http(#[from] reqwest::Error),
    /// The server does not give it.
    #[error("cannot fetch the Dockerfile {url}: the server answered {status}")]
    Status {
        /// Where from, without credentials.
        url: String,
        /// What the server said.
        status: http::StatusCode,
    },
    /// It is too large to be one.
    #[error("Dockerfile {url} bigger than allowed max size ({MAX_DOCKERFILE} bytes)")]
    TooLarge {
        /// Where from, without credentials.
        url: String,
    },
}

/// Fetches a Dockerfile.
///
/// # Errors
///
/// Fails where the server does not give it, or gives too much.
pub async fn fetch(http: &reqwest::Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let mut response = http.get(url).send().await.map_err(without_url)?;
    if !response.status().is_success() {
        return Err(FetchError::Status {
            url: shown(url),
            status: response.status(),
        });
    }
    let mut data = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(without_url)? {
        data.extend_from_slice(&chunk);
        if data.len() > MAX_DOCKERFILE {
            return Err(FetchError::TooLarge { url: shown(url) });
        }
    }
    Ok(data)
}

/// A URL may hold a password.
fn without_url(error: reqwest::Error) -> FetchError {
    error.without_url().into()
}

fn shown(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => format!(
            "{}://{}{}",
            url.scheme(),
            url.host_str().unwrap_or_default(),
            url.path()
        ),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn only_dockerfiles_of_a_reasonable_size() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let router = Router::new()
            .route("/Dockerfile", get(|| async { "FROM scratch\n" }))
            .route("/large", get(|| async { vec![b'#'; MAX_DOCKERFILE + 1] }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let get =
            async |path: &str| fetch(&http, &format!("http://me:secret@{address}/{path}")).await;
        assert_eq!(get("Dockerfile").await.unwrap(), b"FROM scratch\n");
        let error = get("large").await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }));
        let missing = get("nope").await.unwrap_err().to_string();
        assert!(missing.ends_with("/nope: the server answered 404 Not Found"));
        assert!(!missing.contains("secret"));
    }
}
