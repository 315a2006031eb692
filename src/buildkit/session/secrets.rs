//! `moby.buildkit.secrets.v1.Secrets`: values for `RUN --mount=type=secret`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{
    Secrets as SecretsApi, SecretsServer,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tokio::io::AsyncReadExt as _;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::MAX_MESSAGE;

/// The largest secret in bytes (BuildKit `session/secrets/secretsprovider`).
pub const MAX_SECRET: usize = 500 << 10;

pub(super) const METHODS: &[&str] = &["/moby.buildkit.secrets.v1.Secrets/GetSecret"];

/// Why a secret cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A secret has no identifier.
    #[error("a secret has no id")]
    NoId,
    /// The file of a secret cannot be read.
    #[error("cannot read secret {id:?} from {}", path.display())]
    File {
        /// Identifier of the secret.
        id: String,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A secret is larger than [`MAX_SECRET`].
    #[error("secret {id:?} is too big, the limit is {MAX_SECRET} bytes")]
    TooBig {
        /// Identifier of the secret.
        id: String,
    },
}

/// Where the bytes of a secret are.
pub enum SecretSource {
    /// A file, read when the build asks for the secret.
    File(PathBuf),
    /// The bytes themselves, such as the value of an environment variable.
    Value(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(..)"),
        }
    }
}

/// The secrets of a build by identifier.
#[derive(Debug, Default)]
pub struct Secrets {
    sources: HashMap<String, SecretSource>,
}

impl Secrets {
    /// Adds a secret; the last one with an identifier counts.
    ///
    /// # Errors
    ///
    /// Fails if the identifier is empty, the file is not there, or the secret is too big, so that
    /// a build does not start that must fail.
    pub fn add(&mut self, id: &str, source: SecretSource) -> Result<(), SecretError> {
        if id.is_empty() {
            return Err(SecretError::NoId);
        }
        let size = match &source {
            SecretSource::File(path) => {
                let found = fs_err::metadata(path).and_then(|meta| {
                    if meta.is_dir() {
                        return Err(io::ErrorKind::IsADirectory.into());
                    }
                    Ok(meta.len())
                });
                found.map_err(|source| SecretError::File {
                    id: id.to_owned(),
                    path: path.clone(),
                    source,
                })?
            }
            SecretSource::Value(value) => value.len() as u64,
        };
        if size > MAX_SECRET as u64 {
            return Err(SecretError::TooBig { id: id.to_owned() });
        }
        self.sources.insert(id.to_owned(), source);
        Ok(())
    }

    async fn get(&self, id: &str) -> Result<Vec<u8>, Status> {
        match self.sources.get(id) {
            // BuildKit turns this code into its own "secret not found", which optional mounts accept.
            None => Err(Status::not_found("not found")),
            Some(SecretSource::Value(value)) => Ok(value.to_vec()),
            Some(SecretSource::File(path)) => read_limited(path).await.map_err(|error| {
                let error = match error {
                    ReadError::Io(source) => SecretError::File {
                        id: id.to_owned(),
                        path: path.clone(),
                        source,
                    },
                    ReadError::TooBig => SecretError::TooBig { id: id.to_owned() },
                };
                Status::unknown(crate::error::chain(&error))
            }),
        }
    }
}

enum ReadError {
    Io(io::Error),
    TooBig,
}

/// Reads a file that may have grown since it was added, or may be a pipe.
async fn read_limited(path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = fs_err::tokio::File::open(path)
        .await
        .map_err(ReadError::Io)?;
    let mut data = Vec::new();
    file.take(MAX_SECRET as u64 + 1)
        .read_to_end(&mut data)
        .await
        .map_err(ReadError::Io)?;
    if data.len() > MAX_SECRET {
        return Err(ReadError::TooBig);
    }
    Ok(data)
}

/// Creates the service.
pub(super) fn service(secrets: Secrets) -> SecretsServer<Secrets> {
    SecretsServer::new(secrets).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl SecretsApi for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let data = self.get(&request.get_ref().id).await?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_values() {
        let mut secrets = Secrets::default();
        let value = Zeroizing::new(b"hunter2".to_vec());
        secrets.add("a", SecretSource::Value(value)).unwrap();
        let text = format!("{secrets:?}");
        assert!(
            text.contains("\"a\"") && !text.contains("hunter2"),
            "{text}"
        );
        assert!(!text.contains("104"), "{text}");
    }

    #[test]
    fn bad_secrets_are_refused_before_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let mut secrets = Secrets::default();
        let absent = SecretSource::File(dir.path().join("absent"));
        assert!(matches!(
            secrets.add("x", absent),
            Err(SecretError::File { .. })
        ));
        let folder = SecretSource::File(dir.path().to_owned());
        assert!(matches!(
            secrets.add("x", folder),
            Err(SecretError::File { .. })
        ));
        let big = SecretSource::Value(Zeroizing::new(vec![0; MAX_SECRET + 1]));
        assert!(matches!(
            secrets.add("x", big),
            Err(SecretError::TooBig { .. })
        ));
        let value = SecretSource::Value(Zeroizing::new(Vec::new()));
        assert!(matches!(secrets.add("", value), Err(SecretError::NoId)));
        assert!(secrets.sources.is_empty());
    }
}
