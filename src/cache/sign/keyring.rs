//! The keys of one command, by what the options ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::CacheName;
use super::trust::{NamedKey, Trust};
use super::verdict::Policy;
use super::writer::{Signer, Signing};
use crate::options::signing::{KeyPlace, Sign, Verify};

/// The keys that were read for a command.
#[derive(Debug, Default)]
pub struct Keyring {
    /// The key that signs where the options name none.
    pub own: Option<Arc<Signer>>,
    /// The keys that options name to sign.
    pub signers: BTreeMap<KeyPlace, Arc<Signer>>,
    /// Which keys count where the options name none.
    pub trust: Option<Arc<Trust>>,
    /// The keys that options name to verify.
    pub public: BTreeMap<KeyPlace, Vec<NamedKey>>,
}

impl Keyring {
    /// Returns the key that signs a cache; `None` if none does.
    pub fn signer(&self, wish: &Sign) -> Option<&Arc<Signer>> {
        match wish {
            Sign::Off => None,
            Sign::Auto | Sign::On => self.own.as_ref(),
            Sign::With(place) => self.signers.get(place),
        }
    }

    /// Returns which signature a cache must have to be read; `None` if none is asked for.
    pub fn policy(&self, wish: &Verify, max_age: Option<Duration>) -> Option<Policy> {
        let trust = match wish {
            Verify::Off => return None,
            Verify::Auto => self.trust.clone()?,
            // Without any key nothing is believed.
            Verify::On => self.trust.clone().unwrap_or_default(),
            Verify::With(places) => {
                let keys = places.iter().filter_map(|place| self.public.get(place));
                Arc::new(Trust::of(keys.flatten().cloned().collect()))
            }
        };
        Some(Policy { trust, max_age })
    }

    /// Prepares the signature of a cache that is written.
    pub fn signing(&self, wish: &Sign, name: CacheName, in_spite: bool) -> Option<Signing> {
        let signer = Arc::clone(self.signer(wish)?);
        let tag = name.tag.as_deref().unwrap_or_default();
        let rule = self.trust.as_ref().and_then(|trust| trust.rule(tag));
        let trusted = rule.map(|rule| rule.keys.clone()).unwrap_or_default();
        Some(Signing::new(signer, name, trusted, in_spite))
    }
}
