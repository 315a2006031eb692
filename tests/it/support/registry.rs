//! What a registry really holds, read over plain HTTP/1.0 with nothing of the product in between.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry without TLS and login.
#[derive(Debug)]
pub(crate) struct Registry {
    host: String,
}

/// A manifest or an index as it is stored.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The `Content-Type` of the answer.
    pub(crate) media_type: String,
    /// `sha256:…` of the stored bytes.
    pub(crate) digest: String,
    /// The parsed document.
    pub(crate) json: Value,
}

/// How the bytes of a blob are really compressed, whatever its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compression {
    /// gzip.
    Gzip,
    /// gzip with the table of contents of eStargz.
    Estargz,
    /// zstd.
    Zstd,
    /// Anything else, as tar.
    Uncompressed,
}

impl Registry {
    pub(crate) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
        }
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Repository and tag of a reference to this registry.
    pub(crate) fn place<'a>(&self, reference: &'a str) -> (&'a str, &'a str) {
        let rest = reference.strip_prefix(&self.host);
        let rest = rest.and_then(|rest| rest.strip_prefix('/'));
        let rest = rest.expect("a reference to this registry");
        rest.rsplit_once(':').expect("a tag")
    }

    /// The manifest of a reference to this registry, which must be there.
    pub(crate) fn manifest_of(&self, reference: &str) -> Manifest {
        let (repository, tag) = self.place(reference);
        self.manifest(repository, tag).expect("a manifest")
    }

    /// The manifest under a tag or digest; none when the registry has none.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        let answer = self.get(&format!("/v2/{repository}/manifests/{reference}"));
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200, "manifest {repository}:{reference}");
        Some(Manifest {
            media_type: answer.header("content-type").to_owned(),
            digest: digest(&answer.body),
            json: serde_json::from_slice(&answer.body).expect("a manifest in JSON"),
        })
    }

    /// The bytes of a blob, which must have the digest.
    pub(crate) fn blob(&self, repository: &str, wanted: &str) -> Vec<u8> {
        let answer = self.get(&format!("/v2/{repository}/blobs/{wanted}"));
        assert_eq!(answer.status, 200, "blob {wanted} of {repository}");
        assert_eq!(digest(&answer.body), wanted, "blob of {repository}");
        answer.body
    }

    /// The document that a manifest names as its config.
    pub(crate) fn config(&self, repository: &str, manifest: &Manifest) -> Value {
        let config = manifest.json["config"]["digest"]
            .as_str()
            .expect("a config");
        serde_json::from_slice(&self.blob(repository, config)).expect("a config in JSON")
    }

    /// The real compression of each layer of a manifest, in order.
    pub(crate) fn compressions(&self, repository: &str, manifest: &Manifest) -> Vec<Compression> {
        let layers = manifest.json["layers"].as_array().expect("layers");
        let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
        let layers = layers.iter().filter(|layer| !is_record(layer));
        layers
            .map(|layer| Compression::of(&self.blob(repository, &digest(layer))))
            .collect()
    }

    /// Deletes what is under a path, and returns the status.
    pub(crate) fn delete(&self, path: &str) -> u16 {
        self.ask("DELETE", path).status
    }

    /// Stores a manifest under a tag.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, json: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.send("PUT", &path, media_type, json);
        assert_eq!(answer.status, 201, "manifest {repository}:{tag}");
    }

    /// Stores a blob, and returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, blob: &[u8]) -> String {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"));
        let location = begun.header("location");
        let path = location.split_once(&self.host).expect("a location").1;
        let (digest, mark) = (digest(blob), if path.contains('?') { '&' } else { '?' });
        let path = format!("{path}{mark}digest={digest}");
        let answer = self.send("PUT", &path, "application/octet-stream", blob);
        assert_eq!(answer.status, 201, "blob of {repository}");
        digest
    }

    /// The bytes of a manifest.
    pub(crate) fn raw_manifest(&self, repository: &str, reference: &str) -> Vec<u8> {
        let answer = self.get(&format!("/v2/{repository}/manifests/{reference}"));
        assert_eq!(answer.status, 200, "manifest {repository}:{reference}");
        answer.body
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, "", b"")
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.host).expect("the registry");
        // HTTP/1.0: the body ends with the connection and is never chunked.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: {MANIFEST_TYPES}, */*\r\n",
            self.host
        )
        .expect("a request");
        if method != "GET" && method != "DELETE" {
            let length = body.len();
            write!(stream, "Content-Length: {length}\r\n").expect("a request");
        }
        if !media_type.is_empty() {
            write!(stream, "Content-Type: {media_type}\r\n").expect("a request");
        }
        stream.write_all(b"\r\n").expect("a request");
        stream.write_all(body).expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Answer::parse(&bytes)
    }
}

impl Compression {
    /// Reads it from the first and the last bytes.
    pub(crate) fn of(blob: &[u8]) -> Self {
        // eStargz ends with an empty gzip member of 51 bytes whose extra field ends with this word.
        let footer = &blob[blob.len().saturating_sub(51)..];
        if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else if !blob.starts_with(&[0x1f, 0x8b]) {
            Self::Uncompressed
        } else if footer.windows(6).any(|six| six == b"STARGZ") {
            Self::Estargz
        } else {
            Self::Gzip
        }
    }
}

/// Whether an entry of a manifest is the record of the cache's builds, and no layer.
pub(crate) fn is_record(entry: &Value) -> bool {
    entry["annotations"]["dev.docker-cachex.record"].is_string()
}

/// `sha256:…` of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("an HTTP head");
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .expect("an HTTP status");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}
