//! What the scripted registry answers when nothing goes wrong.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine as _;

use super::{Login, Seen, State, digest_of};

pub(super) struct Request {
    pub(super) seen: Seen,
    pub(super) body: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"scripted"}}]}}"#);
        Self {
            status,
            body: body.into_bytes(),
            ..Self::default()
        }
        .header("content-type", "application/json")
    }
}

pub(super) fn respond(state: &mut State, request: &Request, address: SocketAddr) -> Response {
    let path = request.seen.path.as_str();
    if path == "/token" {
        return token(state, request);
    }
    if path.starts_with("/elsewhere/") {
        return elsewhere(state, request);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return Response::error(404, "NOT_FOUND");
    };
    let (repository, kind, rest) = split(rest);
    if let Some(refused) = check_login(state, request, &repository, address) {
        return refused;
    }
    match kind {
        "manifests" => manifests(state, request, (repository, rest.to_owned())),
        "uploads" => uploads(state, request, &repository, rest),
        "blobs" => blobs(state, request, &(repository, rest.to_owned())),
        _ => Response::new(200),
    }
}

fn split(rest: &str) -> (String, &'static str, &str) {
    for (mark, kind) in [
        ("/manifests/", "manifests"),
        ("/blobs/uploads/", "uploads"),
        ("/blobs/", "blobs"),
    ] {
        if let Some((repository, rest)) = rest.split_once(mark) {
            return (repository.to_owned(), kind, rest);
        }
    }
    (String::new(), "", rest)
}

/// The answer to an upload or a redirect on a host that wants no login: the path names the
/// repository and digest or session as `/elsewhere/REPOSITORY/-/REST`.
fn elsewhere(state: &mut State, request: &Request) -> Response {
    if request.seen.header("authorization").is_some() {
        return Response::error(400, "CREDENTIAL_LEAKED");
    }
    let rest = request.seen.path.trim_start_matches("/elsewhere/");
    let (repository, rest) = rest.split_once("/-/").unwrap();
    if request.seen.method == "GET" || request.seen.method == "HEAD" {
        return blobs(state, request, &(repository.to_owned(), rest.to_owned()));
    }
    uploads(state, request, repository, rest)
}

fn token(state: &mut State, request: &Request) -> Response {
    let Login::Token(server) = state.login.clone() else {
        return Response::error(404, "NO_TOKENS");
    };
    if server.only_post && request.seen.method == "GET" {
        return Response::error(405, "UNSUPPORTED");
    }
    let text = if request.seen.method == "POST" {
        String::from_utf8(request.body.clone()).unwrap()
    } else {
        request.seen.query.clone()
    };
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect();
    let value = |name: &str| {
        pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    if let Some((user, password)) = server.user {
        let by_header = request.seen.header("authorization") == Some(&basic(user, password));
        let by_form = value("username") == Some(user) && value("password") == Some(password);
        if !by_header && !by_form {
            return Response::error(401, "UNAUTHORIZED");
        }
    }
    if server.refresh.is_some() && value("refresh_token") != server.refresh {
        return Response::error(401, "UNAUTHORIZED");
    }
    let scopes = pairs
        .iter()
        .filter(|(n, _)| n == "scope")
        .flat_map(|(_, v)| v.split_whitespace().map(str::to_owned))
        .collect();
    state.counter += 1;
    let token = format!("secret-token-{}", state.counter);
    state.tokens.insert(token.clone(), (scopes, server.uses));
    let mut answer = Response::new(200).header("content-type", "application/json");
    let expires = server
        .expires_in
        .map_or(String::new(), |s| format!(",\"expires_in\":{s}"));
    answer.body = format!(r#"{{"token":"{token}"{expires}}}"#).into_bytes();
    answer
}

fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

fn check_login(
    state: &mut State,
    request: &Request,
    repository: &str,
    address: SocketAddr,
) -> Option<Response> {
    let header = request.seen.header("authorization").unwrap_or_default();
    match state.login.clone() {
        Login::Open => None,
        Login::Basic(user, password) => {
            let right = header == basic(user, password);
            let refused = Response::error(401, "UNAUTHORIZED");
            (!right).then(|| refused.header("www-authenticate", "Basic realm=\"scripted\""))
        }
        Login::Token(server) => {
            let action = match request.seen.method.as_str() {
                "GET" | "HEAD" => "pull",
                "DELETE" if !request.seen.path.contains("/uploads/") => "delete",
                _ => "push",
            };
            if may(state, header, repository, action, true) {
                return None;
            }
            let realm = server
                .realm
                .unwrap_or_else(|| format!("http://{address}/token"));
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"scripted\",scope=\"repository:{repository}:{action}\""
            );
            Some(Response::error(401, "UNAUTHORIZED").header("www-authenticate", challenge))
        }
    }
}

fn may(state: &mut State, header: &str, repository: &str, action: &str, uses: bool) -> bool {
    let token = header.strip_prefix("Bearer ").unwrap_or_default();
    let Some((scopes, left)) = state.tokens.get_mut(token) else {
        return false;
    };
    if uses && let Some(left) = left {
        if *left == 0 {
            return false;
        }
        *left -= 1;
    }
    let wanted = format!("repository:{repository}:");
    scopes.iter().any(|scope| {
        scope
            .strip_prefix(&wanted)
            .is_some_and(|a| a.split(',').any(|a| a == action))
    })
}

fn manifests(state: &mut State, request: &Request, key: (String, String)) -> Response {
    match request.seen.method.as_str() {
        "PUT" => {
            let digest = digest_of(&request.body);
            let media_type = request
                .seen
                .header("content-type")
                .unwrap_or_default()
                .to_owned();
            let by_digest = (key.0.clone(), digest.clone());
            state
                .manifests
                .insert(by_digest, (media_type.clone(), request.body.clone()));
            state
                .manifests
                .insert(key, (media_type, request.body.clone()));
            Response::new(201).header("docker-content-digest", digest)
        }
        "DELETE" => Response::new(if state.manifests.remove(&key).is_some() {
            202
        } else {
            404
        }),
        _ => match state.manifests.get(&key) {
            None => Response::error(404, "MANIFEST_UNKNOWN"),
            Some((media_type, bytes)) => {
                let mut answer = Response::new(200)
                    .header("content-type", media_type)
                    .header("docker-content-digest", digest_of(bytes));
                answer.body.clone_from(bytes);
                answer
            }
        },
    }
}

fn blobs(state: &mut State, request: &Request, key: &(String, String)) -> Response {
    if request.seen.method == "DELETE" {
        return Response::new(if state.blobs.remove(key).is_some() {
            202
        } else {
            404
        });
    }
    let Some(bytes) = state.blobs.get(key) else {
        return Response::error(404, "BLOB_UNKNOWN");
    };
    let range = request
        .seen
        .header("range")
        .and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else {
        let mut answer = Response::new(200).header("docker-content-digest", &key.1);
        answer.body.clone_from(bytes);
        return answer;
    };
    let first: usize = first.parse().unwrap();
    let last = last
        .parse::<usize>()
        .unwrap_or(usize::MAX)
        .min(bytes.len().saturating_sub(1));
    if first >= bytes.len() {
        return Response::error(416, "RANGE");
    }
    let range = format!("bytes {first}-{last}/{}", bytes.len());
    let mut answer = Response::new(206).header("content-range", range);
    answer.body = bytes[first..=last].to_vec();
    answer
}

fn uploads(state: &mut State, request: &Request, repository: &str, id: &str) -> Response {
    let query: HashMap<String, String> = url::form_urlencoded::parse(request.seen.query.as_bytes())
        .into_owned()
        .collect();
    match request.seen.method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
                let bytes = state.blobs.get(&(from.clone(), digest.clone())).cloned();
                let header = request
                    .seen
                    .header("authorization")
                    .unwrap_or_default()
                    .to_owned();
                let open = !matches!(state.login, Login::Token(_));
                let allowed = open || may(state, &header, from, "pull", false);
                if let Some(bytes) = bytes.filter(|_| allowed && !state.no_mount) {
                    state
                        .blobs
                        .insert((repository.to_owned(), digest.clone()), bytes);
                    return Response::new(201).header("docker-content-digest", digest);
                }
            }
            state.counter += 1;
            let id = format!("session{}", state.counter);
            state.uploads.insert(id.clone(), Vec::new());
            Response::new(202).header(
                "location",
                format!("/v2/{repository}/blobs/uploads/{id}?_state=secret-state"),
            )
        }
        "PATCH" => match state.uploads.get_mut(id) {
            None => Response::error(404, "BLOB_UPLOAD_UNKNOWN"),
            Some(bytes) => {
                bytes.extend_from_slice(&request.body);
                let range = format!("0-{}", bytes.len().saturating_sub(1));
                let location = format!("/v2/{repository}/blobs/uploads/{id}?_state=secret-next");
                Response::new(202)
                    .header("location", location)
                    .header("range", range)
            }
        },
        "PUT" => {
            let Some(mut bytes) = state.uploads.get(id).cloned() else {
                return Response::error(404, "BLOB_UPLOAD_UNKNOWN");
            };
            bytes.extend_from_slice(&request.body);
            let digest = digest_of(&bytes);
            if query.get("digest") != Some(&digest) {
                return Response::error(400, "DIGEST_INVALID");
            }
            state.uploads.remove(id);
            state
                .blobs
                .insert((repository.to_owned(), digest.clone()), bytes);
            Response::new(201).header("docker-content-digest", digest)
        }
        "DELETE" => Response::new(if state.uploads.remove(id).is_some() {
            204
        } else {
            404
        }),
        _ => Response::error(405, "UNSUPPORTED"),
    }
}
