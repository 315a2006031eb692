//! Keys of sources: images, Git repositories, files of web servers and folders of the client
//! (BuildKit `source`).

use bollard_buildkit_proto::pb::{Platform, SourceOp};

use super::go_json::{Object, quote};
use super::{Facts, StepKey, Unknown, Vertex};
use crate::digest::Digest;

/// What a source turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFact {
    /// The image's digest.
    Image(Digest),
    /// A branch or tag.
    Git {
        /// Its full name, such as `refs/heads/main`.
        reference: String,
        /// The object that it names.
        object: String,
        /// The commit, where the object is an annotated tag.
        commit: Option<String>,
    },
    /// A file.
    Http {
        /// The name that it gets.
        filename: String,
        /// Digest of its content.
        digest: Digest,
        /// When it was changed, as in the header `Last-Modified`; empty for never.
        last_modified: String,
    },
}

/// Returns the key of a source.
pub(super) fn key(
    source: &SourceOp,
    vertex: &Vertex,
    facts: &Facts<'_>,
) -> Result<StepKey, Unknown> {
    let fact = facts.sources.get(&vertex.digest);
    let scheme = source.identifier.split_once("://");
    let keys = match scheme {
        Some(("docker-image" | "oci-layout", name)) => {
            let platform = vertex.platform(facts)?;
            image(source, name, fact, &platform, facts)?
        }
        Some(("git", url)) => vec![git(source, url, fact)?],
        Some(("http" | "https", _)) => vec![http(source, fact)?],
        Some(("local", _)) => Vec::new(),
        _ => return Err(Unknown::NewKind),
    };
    let digest = |key: &String| Digest::of(format!("buildkit.source.v0:{key}").as_bytes());
    Ok(StepKey {
        digests: keys.iter().map(digest).collect(),
        inputs: Vec::new(),
    })
}

/// Returns the key by the image's digest, and where its layers are known the one by those.
fn image(
    source: &SourceOp,
    name: &str,
    fact: Option<&SourceFact>,
    platform: &Platform,
    facts: &Facts<'_>,
) -> Result<Vec<String>, Unknown> {
    let named = name.split_once('@').map(|(_, digest)| digest.to_owned());
    let digest = match (named, fact) {
        (Some(digest), _) => digest,
        (None, Some(SourceFact::Image(digest))) => digest.to_string(),
        (None, _) => return Err(Unknown::Source("the digest of an image")),
    };
    let limit = ["image.layerlimit", "oci.layerlimit"];
    let limit = limit.iter().find_map(|name| source.attrs.get(*name));
    let limit = limit.map(|limit| limit.parse::<usize>());
    let limit = limit
        .transpose()
        .map_err(|_| Unknown::Invalid("a layer limit is no number"))?;
    let json = Object::new()
        .raw("Digest", &quote(&digest))
        .raw("OS", &quote(&platform.os))
        .raw("Arch", &quote(&platform.architecture))
        .text("Variant", &platform.variant)
        .text("OSVersion", &platform.os_version)
        .texts("OSFeatures", &platform.os_features)
        .maybe("Limit", limit.map(|limit| limit.to_string()))
        .end();
    let mut keys = vec![Digest::of(json.as_bytes()).to_string()];
    let layers = facts.images.get(&(digest, short(platform)));
    let layers = layers.map(|l| l.get(..limit.unwrap_or(l.len())).unwrap_or_default());
    keys.extend(layers.and_then(chain_id));
    Ok(keys)
}

/// Returns `OS/ARCH[/VARIANT]`.
fn short(platform: &Platform) -> String {
    let parts = [&platform.os, &platform.architecture, &platform.variant];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.cloned().collect::<Vec<_>>().join("/")
}

/// Returns what identifies a stack of layers in the OCI image specification; `None` for no layers.
fn chain_id(layers: &[Digest]) -> Option<String> {
    let (first, rest) = layers.split_first()?;
    Some(rest.iter().fold(first.to_string(), |chain, layer| {
        Digest::of(format!("{chain} {layer}").as_bytes()).to_string()
    }))
}

fn git(source: &SourceOp, url: &str, fact: Option<&SourceFact>) -> Result<String, Unknown> {
    let attr = |name: &str| source.attrs.get(name).map(String::as_str);
    let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
    let (named, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
    let keeps_git = attr("git.keepgitdir") == Some("true");
    let (object, reference) = match fact {
        _ if is_commit(named) => (named, named),
        Some(SourceFact::Git {
            reference,
            object,
            commit,
        }) => {
            let commit = commit.as_ref().filter(|_| !keeps_git);
            (commit.unwrap_or(object).as_str(), reference.as_str())
        }
        _ => return Err(Unknown::Source("the commit of a Git repository")),
    };
    let mut key = object.to_owned();
    if keeps_git {
        key.push_str(".git");
        if !reference.is_empty() {
            key.push('#');
            key.push_str(reference);
        }
    }
    let folder = crate::fsutil::join_paths("/", folder);
    if folder != "/" {
        key.push(':');
        key.push_str(folder.trim_start_matches('/'));
    }
    if attr("git.skipsubmodules") == Some("true") {
        key.push_str("(skip-submodules)");
    }
    if let Some(time) = attr("git.mtime").filter(|time| !matches!(*time, "" | "checkout")) {
        key.extend(["(mtime=", time, ")"]);
    }
    if attr("git.checkoutbundle") == Some("true") {
        key.push_str("(bundle)");
    }
    Ok(key)
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn http(source: &SourceOp, fact: Option<&SourceFact>) -> Result<String, Unknown> {
    let Some(SourceFact::Http {
        filename,
        digest,
        last_modified,
    }) = fact
    else {
        return Err(Unknown::Source("the content of a web address"));
    };
    let number = |name: &str| match source.attrs.get(name) {
        Some(text) => number(text).ok_or(Unknown::Invalid("an owner or mode is no number")),
        None => Ok(0),
    };
    let headers = source.attrs.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("http.header.")?.to_ascii_lowercase();
        let name = match name.as_str() {
            "accept" => "Accept",
            "user-agent" => "User-Agent",
            _ => return None,
        };
        let header = Object::new().raw("Name", &quote(name));
        Some(header.raw("Value", &quote(value)).end())
    });
    let mut headers: Vec<String> = headers.collect();
    headers.sort();
    let secret = source.attrs.get("http.authheadersecret");
    let json = Object::new()
        .raw("Filename", &quote(filename))
        .raw("Perm", &number("http.perm")?.to_string())
        .raw("UID", &number("http.uid")?.to_string())
        .raw("GID", &number("http.gid")?.to_string())
        .raw("Checksum", &quote(digest.as_str()))
        .text("LastModTime", last_modified)
        .text("AuthHeaderSecret", secret.map_or("", String::as_str))
        .list("Header", &headers)
        .end();
    Ok(Digest::of(json.as_bytes()).to_string())
}

/// Reads a number as Go does with base 0, for the two notations that frontends write.
fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}
