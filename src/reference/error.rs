//! Why a text is not a reference.

use super::grammar::{PATH_MAX, TAG_MAX};

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("empty reference, expected a name such as \"registry.example/app:tag\"")]
    Empty,
    /// The text is 64 hexadecimal digits: the ID of an image, not a name.
    #[error("invalid reference {reference:?}: 64 hexadecimal digits are an image ID, not a name")]
    Identifier {
        /// The whole text.
        reference: String,
    },
    /// The text starts with a URL scheme.
    #[error("invalid reference {reference:?}: leave out {scheme:?}")]
    Scheme {
        /// The whole text.
        reference: String,
        /// The scheme with its separator, for example `https://`.
        scheme: String,
    },
    /// The registry's host is not a host name, IPv4 or bracketed IPv6 address with an optional port.
    #[error(
        "invalid reference {reference:?}: {domain:?} is not a valid registry host, expected HOST[:PORT]"
    )]
    Domain {
        /// The whole text.
        reference: String,
        /// The part that stands for the registry.
        domain: String,
    },
    /// The repository's path has an uppercase letter.
    #[error(
        "invalid reference {reference:?}: repository name must be lowercase, for example {lower:?}"
    )]
    Uppercase {
        /// The whole text.
        reference: String,
        /// The same text with a lowercase path.
        lower: String,
    },
    /// The repository's path has no component, or an empty or malformed one.
    #[error(
        "invalid reference {reference:?}: {component:?} is not a valid part of a repository name \
         (lowercase letters and digits, separated by one \".\", \"_\", \"__\" or any number of \"-\")"
    )]
    Component {
        /// The whole text.
        reference: String,
        /// The component that is wrong; empty for `a//b`.
        component: String,
    },
    /// The repository's path is longer than 255 bytes.
    #[error("invalid reference: repository name must not be more than {PATH_MAX} characters")]
    TooLong,
    /// The tag is empty, too long or has a character that tags cannot have.
    #[error(
        "invalid reference {reference:?}: invalid tag {tag:?} \
         (letters, digits, \"_\", \".\" and \"-\", at most {TAG_MAX}, not starting with \".\" or \"-\")"
    )]
    Tag {
        /// The whole text.
        reference: String,
        /// The part behind the colon.
        tag: String,
    },
    /// The digest has no known algorithm, or the wrong number or kind of digits.
    #[error("invalid reference {reference:?}: invalid digest {digest:?} ({expected})")]
    Digest {
        /// The whole text.
        reference: String,
        /// The part behind the at sign.
        digest: String,
        /// What would be right.
        expected: &'static str,
    },
}
