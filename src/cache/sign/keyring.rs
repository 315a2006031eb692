//! The keys of one command, by what the options ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::CacheName;
use super::cosign::Cosign;
use super::trust::{NamedKey, Trust};
use super::verdict::Policy;
use super::writer::{Signer, Signing};
use crate::options::signing::{KeyPlace, Sign, Verification, Verify};

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
    /// The user's cosign.
    pub cosign: Arc<Cosign>,
    /// The commit that a CI says it builds.
    pub commit: Option<String>,
    /// How old the signatures of caches may be that are read: what is older is not merged with either.
    pub max_age: Option<Duration>,
}

impl Keyring {
    /// Returns the key that signs a cache; `None` if none does.
    pub fn signer(&self, wish: &Sign) -> Option<Arc<Signer>> {
        match wish {
            Sign::Off => None,
            Sign::Auto | Sign::On => self.own.clone(),
            Sign::With(place) => self.signers.get(place).cloned(),
            Sign::Cosign(identity) => {
                let signer = Signer::cosign(Arc::clone(&self.cosign), identity.clone());
                Some(Arc::new(signer))
            }
        }
    }

    /// Returns which signature a cache must have to be read; `None` if none is asked for.
    pub fn policy(&self, wish: &Verification) -> Option<Policy> {
        let trust = match &wish.verify {
            Verify::Off => return None,
            Verify::Auto => self.trust.clone()?,
            // Without any key nothing is believed.
            Verify::On => self.trust.clone().unwrap_or_default(),
            Verify::With(places) => {
                let keys = places.iter().filter_map(|place| self.public.get(place));
                Arc::new(Trust::of(keys.flatten().cloned().collect()))
            }
            Verify::Cosign(identity) => {
                let key = NamedKey::cosign(Arc::clone(&self.cosign), identity.clone());
                Arc::new(Trust::of(vec![key]))
            }
        };
        let max_age = wish.max_age;
        Some(Policy { trust, max_age })
    }

    /// Prepares the signature of a cache that is written. `in_spite` is whether it is signed though the build reads caches
    /// that are not verified, `tells_commit` whether the signature may tell the commit.
    pub fn signing(
        &self,
        wish: &Sign,
        name: CacheName,
        in_spite: bool,
        tells_commit: bool,
    ) -> Option<Signing> {
        let signer = self.signer(wish)?;
        let trust = self.trust.as_ref();
        let rule = trust.and_then(|trust| trust.rule(name.tag.as_deref()));
        let trusted = rule.map(|rule| rule.keys.clone()).unwrap_or_default();
        let commit = self.commit.clone().filter(|_| tells_commit);
        let signing = Signing::new(signer, name, trusted, in_spite);
        Some(signing.at_commit(commit).not_older_than(self.max_age))
    }
}
