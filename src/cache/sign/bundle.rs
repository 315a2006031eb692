//! What is signed, and its form: a sigstore bundle v0.3 with a DSSE envelope around an in-toto statement, as cosign makes
//! and reads it (sigstore `specs/BUNDLE_SPEC.md`, cosign `specs/`; secure-systems-lab `dsse/protocol.md`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key::{KeyError, PublicKey, SigningKey};
use crate::digest::Digest;

/// Its media type.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The version before, which says the same of what is read here, and which cosign may write.
const OLD_STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// The kind of statement, as cosign calls its own.
pub const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The largest bundle that is read, in bytes. One has about 1000.
pub const MAX_BYTES: usize = 64 << 10;

/// What a signature says of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The repository that it belongs to, with its registry.
    pub repository: String,
    /// The tag that it belongs to.
    pub tag: String,
    /// The commit that it was made from, where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When it was signed.
    #[serde(with = "time")]
    pub signed_at: Timestamp,
    /// What signed it.
    #[serde(default)]
    pub tool: String,
}

/// A time as text (RFC 3339).
mod time {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Why a bundle is not taken.
#[derive(Debug, Error)]
pub enum BundleError {
    /// It is too large.
    #[error("its signature is too large to be one")]
    TooLarge,
    /// It has another form.
    #[error("its signature has a form that is not known")]
    Form(#[source] Option<serde_json::Error>),
}

/// cosign takes a file with other members for a bundle of an older form, in which it believes other parts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    /// cosign may have a certificate in its place, which it looks at itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<Hint>,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    /// Which key it was, as another tool may say; nobody believes it.
    #[serde(default, rename = "keyid", skip_serializing)]
    _key: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Claims,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: Sha256,
}

#[derive(Serialize, Deserialize)]
struct Sha256 {
    sha256: String,
}

/// Signs what is claimed of a manifest, which has this digest.
///
/// # Errors
///
/// Fails if the system gives no random numbers.
pub fn sign(key: &SigningKey, manifest: &Digest, claims: &Claims) -> Result<String, KeyError> {
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject {
            name: format!("{}:{}", claims.repository, claims.tag),
            digest: Sha256 {
                sha256: manifest.hex().to_owned(),
            },
        }],
        predicate_type: PREDICATE.to_owned(),
        predicate: claims.clone(),
    };
    // Texts and a time: writing these cannot fail.
    let payload = serde_json::to_vec(&statement).unwrap_or_default();
    let signature = key.sign(&authenticated(&payload))?;
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material {
            public_key: Some(Hint {
                hint: key.public().fingerprint(),
            }),
        },
        dsse_envelope: Envelope {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature {
                sig: STANDARD.encode(signature),
                _key: None,
            }],
        },
    };
    Ok(serde_json::to_string(&bundle).unwrap_or_default())
}

/// A bundle that was read. Nothing of it is believed before a key verifies it.
#[derive(Debug)]
pub struct Opened {
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<String>,
}

impl Opened {
    /// Reads a bundle.
    ///
    /// # Errors
    ///
    /// Fails if it is none of the version that is known.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        if text.len() > MAX_BYTES {
            return Err(BundleError::TooLarge);
        }
        let form = |error| BundleError::Form(Some(error));
        let bundle: Bundle = serde_json::from_str(text).map_err(form)?;
        let envelope = bundle.dsse_envelope;
        let [signature] = &envelope.signatures[..] else {
            return Err(BundleError::Form(None));
        };
        if bundle.media_type != MEDIA_TYPE || envelope.payload_type != PAYLOAD_TYPE {
            return Err(BundleError::Form(None));
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| BundleError::Form(None));
        Ok(Self {
            payload: decode(&envelope.payload)?,
            signature: decode(&signature.sig)?,
            hint: bundle.verification_material.public_key.map(|key| key.hint),
        })
    }

    /// Returns what the bundle says of its key, for people: nobody has looked whether it is so.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().filter(|hint| !hint.is_empty())
    }

    /// Returns what the bundle says, for people: nobody has looked whether it is so. `None` where another tool has made it,
    /// which says less.
    pub fn says(&self) -> Option<Claims> {
        let statement: Statement = serde_json::from_slice(&self.payload).ok()?;
        Some(statement.predicate)
    }

    /// Returns whether the signature was made with the private key of this one.
    pub fn is_signed_with(&self, key: &PublicKey) -> bool {
        key.verifies(&authenticated(&self.payload), &self.signature)
    }

    /// Returns what a verified bundle claims, if it is about the manifest with this digest; `None` if it is about
    /// another.
    ///
    /// # Errors
    ///
    /// Fails if the statement is of another kind.
    pub fn claims(&self, manifest: &Digest) -> Result<Option<Claims>, BundleError> {
        let form = |error| BundleError::Form(Some(error));
        let statement: Statement = serde_json::from_slice(&self.payload).map_err(form)?;
        let is_known = [STATEMENT, OLD_STATEMENT].contains(&statement.kind.as_str());
        if !is_known || statement.predicate_type != PREDICATE {
            return Err(BundleError::Form(None));
        }
        let fits = match &statement.subject[..] {
            [subject] => subject.digest.sha256 == manifest.hex(),
            _ => false,
        };
        Ok(fits.then_some(statement.predicate))
    }
}

/// What is signed of a payload (DSSE's pre-authentication encoding).
fn authenticated(payload: &[u8]) -> Vec<u8> {
    let kind = PAYLOAD_TYPE.len();
    let head = format!("DSSEv1 {kind} {PAYLOAD_TYPE} {} ", payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Algorithm;
    use super::*;

    fn claims() -> Claims {
        Claims {
            repository: "r.io/a".into(),
            tag: "c".into(),
            commit: Some("4f2a91c".into()),
            signed_at: Timestamp::UNIX_EPOCH,
            tool: "test".into(),
        }
    }

    #[test]
    fn a_bundle_says_what_was_claimed_of_its_manifest_alone() {
        let key = SigningKey::parse(&SigningKey::generate(Algorithm::P256).unwrap()).unwrap();
        let manifest = Digest::of(b"m");
        let bundle = sign(&key, &manifest, &claims()).unwrap();
        let opened = Opened::parse(&bundle).unwrap();
        assert!(opened.is_signed_with(&key.public()));
        assert_eq!(opened.claims(&manifest).unwrap(), Some(claims()));
        assert_eq!(opened.claims(&Digest::of(b"n")).unwrap(), None);
    }

    #[test]
    fn other_forms_are_refused() {
        let key = SigningKey::parse(&SigningKey::generate(Algorithm::Ed25519).unwrap()).unwrap();
        let bundle = sign(&key, &Digest::of(b"m"), &claims()).unwrap();
        for (from, to) in [
            ("v0.3", "v0.2"),
            ("in-toto+json", "other"),
            ("\"sig\"", "\"gis\""),
            ("\"signatures\":[", "\"signatures\":[{\"sig\":\"\"},"),
            ("\"payload\":\"", "\"payload\":\"*"),
            // Members that cosign knows from older forms, or by another name.
            ("{\"mediaType\"", "{\"base64Signature\":\"\",\"mediaType\""),
            ("{\"mediaType\"", "{\"Cert\":\"\",\"mediaType\""),
            ("{\"mediaType\"", "{\"dsse_envelope\":{},\"mediaType\""),
            ("{\"mediaType\"", "{\"mediaType\":\"\",\"mediaType\""),
            ("{\"payload\"", "{\"payload_type\":\"\",\"payload\""),
            ("{\"sig\"", "{\"signature\":\"\",\"sig\""),
        ] {
            assert!(bundle.contains(from), "{from}");
            assert!(
                Opened::parse(&bundle.replacen(from, to, 1)).is_err(),
                "{to}"
            );
        }
        assert!(Opened::parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            let _result = Opened::parse(&text);
        }

        #[test]
        fn a_damaged_bundle_is_never_signed(at in any::<proptest::sample::Index>(), with in "[a-zA-Z0-9]") {
            let key = SigningKey::parse(&SigningKey::generate(Algorithm::Ed25519).unwrap()).unwrap();
            let manifest = Digest::of(b"m");
            let mut bundle = sign(&key, &manifest, &claims()).unwrap();
            let at = at.index(bundle.len());
            bundle.replace_range(at..=at, &with);
            if let Ok(opened) = Opened::parse(&bundle)
                && opened.is_signed_with(&key.public())
            {
                prop_assert_eq!(opened.claims(&manifest).unwrap(), Some(claims()));
            }
        }
    }
}
