//! TLS to a daemon with the PEM files of a context: rustls with ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::context::TlsFiles;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing or broken.
    #[error("cannot read the TLS file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A certificate without its key, or the reverse.
    #[error("a TLS client certificate needs both the certificate and its key")]
    HalfPair,
    /// No certificates to trust.
    #[error("there are no certificates to check the Docker daemon with")]
    NoRoots,
    /// rustls refused the material.
    #[error("cannot set up TLS")]
    Rustls(#[from] rustls::Error),
    /// The verifier refused the certificates.
    #[error("cannot use the certificate authority")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// Creates the TLS settings for a daemon.
///
/// # Errors
///
/// Fails if a file cannot be read or does not hold what it should.
pub fn client_config(files: &TlsFiles, skip_verify: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if skip_verify {
        Arc::new(Unverified(Arc::clone(&provider)))
    } else {
        let roots = Arc::new(roots(files.ca.as_deref())?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(file_error(key))?;
            builder.with_client_auth_cert(certificates(cert)?, key_der)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfPair),
    })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates(path)? {
            store.add(certificate)?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .map_err(file_error(path))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(file_error(path))
}

fn file_error(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File {
        path: path.clone(),
        source,
    }
}

/// Accepts every certificate, as the user asked with `--tlsverify=false` or `SkipTLSVerify`.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
