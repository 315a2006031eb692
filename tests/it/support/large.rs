//! Caches that are larger than BuildKit reads.

use std::sync::Arc;

use bytes::Bytes;
use docker_cachex::for_tests::digest::Digest;
use docker_cachex::for_tests::docker::Tokens;
use docker_cachex::for_tests::registry::{
    Access, BlobSource, HostConfig, RegistryClient, RetryPolicy, SystemClock, UploadOptions,
};
use serde_json::{Value, json};

/// Results that a cache gets.
pub(crate) const OLD: usize = 10_000;

/// Gives the cache under the tag `c` a config of more than 1 MiB: what it says, and many records with old
/// results. Returns the config's digest.
pub(crate) fn enlarge(host: &str, repository: &str) -> String {
    enlarge_with(host, repository, "2001-01-01T00:00:00Z")
}

/// As [`enlarge`], with records whose results were made at this time.
pub(crate) fn enlarge_with(host: &str, repository: &str, created: &str) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = RegistryClient::new(
            HostConfig::new(host),
            Tokens::anonymous(),
            RetryPolicy::default(),
            Arc::new(SystemClock),
        );
        let client = client.expect("a client");
        let target = client.repository(repository, Access::Push);
        let target = target.expect("a repository");
        let raw = target.manifest("c").await.expect("an answer");
        let raw = raw.expect("a cache");
        let mut json: Value = serde_json::from_slice(&raw.bytes).expect("JSON");
        let old = &json["config"];
        let digest = old["digest"].as_str().and_then(|text| text.parse().ok());
        let (digest, size) = (digest.expect("a digest"), old["size"].as_u64());
        let bytes = target.read_blob(&digest, size.expect("a size")).await;
        let mut config: Value = serde_json::from_slice(&bytes.expect("the config")).expect("JSON");
        let records = config["records"].as_array_mut().expect("records");
        for n in 0..OLD {
            let digest = Digest::of(format!("old {n}").as_bytes());
            let result = json!({"layer": 0, "createdAt": created});
            records.push(json!({"digest": digest, "layers": [result]}));
        }
        let config = Bytes::from(config.to_string());
        assert!(config.len() > 1 << 20);
        let digest = Digest::of(&config);
        json["config"]["digest"] = json!(digest);
        json["config"]["size"] = json!(config.len());
        let source = BlobSource::Bytes(config.clone());
        let options = UploadOptions::default();
        let size = config.len() as u64;
        let uploaded = target.upload(&digest, size, &source, &options).await;
        uploaded.expect("the config");
        let bytes = Bytes::from(json.to_string());
        let put = target.put_manifest("c", &raw.media_type, &bytes).await;
        put.expect("the manifest");
        digest.to_string()
    })
}
