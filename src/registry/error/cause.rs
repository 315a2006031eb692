//! What the chain of causes of a broken exchange says about the other side.

use std::error::Error as StdError;
use std::io;

type Cause<'a> = &'a (dyn StdError + 'static);

/// Returns whether a certificate was refused: another attempt does not help.
pub(in crate::registry) fn is_certificate_error(error: Cause<'_>) -> bool {
    tls(error).is_some_and(is_certificate)
}

/// Returns whether TLS fails again however often it is tried: a certificate, or no TLS at all.
pub(in crate::registry) fn is_final_tls_error(error: Cause<'_>) -> bool {
    is_certificate_error(error) || is_no_tls(error)
}

/// Returns whether the other side answers, and not with TLS.
pub(in crate::registry) fn is_no_tls(error: Cause<'_>) -> bool {
    tls(error).is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(_)))
}

/// Returns whether the other side knows TLS, although no connection came about.
pub(in crate::registry) fn speaks_tls(error: Cause<'_>) -> bool {
    tls(error).is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_)))
}

/// Returns whether an answer is no HTTP.
pub(in crate::registry) fn is_not_http(error: Cause<'_>) -> bool {
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
}

/// Returns whether nobody was there to connect to.
pub(in crate::registry) fn is_unreached(error: Cause<'_>) -> bool {
    if tls(error).is_some() {
        return false;
    }
    let is_nobody = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::TimedOut
        ) || is_no_address(error)
    };
    find::<io::Error>(error).is_some_and(is_nobody) || is_time_out(error)
}

/// Returns whether a name has no address. The standard library has no kind for that, and one text on all systems.
fn is_no_address(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

/// Returns whether no connection came about in time.
fn is_time_out(error: Cause<'_>) -> bool {
    find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout)
}

fn is_certificate(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
    )
}

fn tls(error: Cause<'_>) -> Option<&rustls::Error> {
    find(error)
}

/// Looks for an error of one type in a chain of causes.
fn find<E: StdError + 'static>(error: Cause<'_>) -> Option<&E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error skips the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
