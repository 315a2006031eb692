//! BuildKit's errors as they come over gRPC: a code, a message, and typed details.
//!
//! BuildKit attaches details as `google.protobuf.Any` values that hold JSON (type URL
//! `github.com/moby/buildkit/errdefs.Source+json` and the like; BuildKit `solver/errdefs`,
//! `util/grpcerrors`). Those used here are the source lines and the failed vertex.

use std::error::Error as StdError;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::pb::{Position, Range};
use prost::Message as _;
use serde::Deserialize;
use tonic::{Code, Status};

use super::frontend_caps;
use crate::error::ErrorKind;

/// A failed call to BuildKit.
#[derive(Debug)]
pub struct RpcError {
    code: Code,
    message: String,
    sources: Vec<SourceExcerpt>,
    vertex: Option<Box<str>>,
    subrequest: Option<Box<str>>,
    broken: bool,
}

/// Lines of a source file, mostly the Dockerfile, that an error or a warning is about.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceExcerpt {
    /// Name of the file as the frontend knows it.
    pub filename: String,
    /// The complete file.
    pub data: Vec<u8>,
    /// The ranges, with lines counted from 1.
    pub ranges: Vec<Range>,
}

impl RpcError {
    /// Wraps a failure of the connection itself.
    pub(super) fn transport(error: &tonic::transport::Error) -> Self {
        let message = crate::error::chain(error);
        Self {
            code: Code::Unavailable,
            message,
            sources: Vec::new(),
            vertex: None,
            subrequest: None,
            broken: true,
        }
    }

    /// Returns whether the daemon gave no answer because the connection to it broke.
    pub fn is_connection_broken(&self) -> bool {
        self.broken
    }

    /// Returns the gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the daemon's message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the source lines that the error points to, outermost first.
    pub fn sources(&self) -> &[SourceExcerpt] {
        &self.sources
    }

    /// Returns the request that the frontend does not know, such as `frontend.lint`, if that is the
    /// error.
    pub fn unsupported_subrequest(&self) -> Option<&str> {
        self.subrequest.as_deref()
    }

    /// Returns what can be done about the error, where it is known.
    pub fn hint(&self) -> Option<String> {
        frontend_caps::hint(&self.message)
    }

    /// Returns whether the call was cancelled, by this side or by the daemon.
    pub fn is_cancelled(&self) -> bool {
        self.code == Code::Cancelled && !self.broken
    }

    /// Returns the kind of command failure that buildx makes of this code.
    pub fn kind(&self) -> ErrorKind {
        match self.code {
            Code::Internal => ErrorKind::Internal,
            Code::ResourceExhausted => ErrorKind::ResourceExhausted,
            Code::Cancelled if !self.broken => ErrorKind::Cancelled,
            _ => ErrorKind::Failed,
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RpcError {}

impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        let mut error = Self {
            code: status.code(),
            message: message_of(&status),
            sources: Vec::new(),
            vertex: None,
            subrequest: None,
            // A status that came over the wire has no cause on this side.
            broken: matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Cancelled
            ) && status.source().is_some(),
        };
        if let Ok(details) = rpc::Status::decode(status.details()) {
            for detail in details.details {
                error.add_detail(&detail.type_url, &detail.value);
            }
        }
        error
    }
}

impl RpcError {
    fn add_detail(&mut self, type_url: &str, value: &[u8]) {
        if type_url.ends_with("errdefs.Source+json") {
            if let Ok(source) = serde_json::from_slice::<JsonSource>(value) {
                self.sources.extend(source.into_excerpt());
            }
        } else if type_url.ends_with("errdefs.Vertex+json") {
            if let Ok(vertex) = serde_json::from_slice::<JsonVertex>(value) {
                self.vertex = Some(vertex.digest.into());
            }
        } else if type_url.ends_with("errdefs.Subrequest+json")
            && let Ok(subrequest) = serde_json::from_slice::<JsonSubrequest>(value)
        {
            self.subrequest = Some(subrequest.name.into());
        }
    }
}

/// A connection that broke has an empty or a library's own message; its cause says more. What a
/// server does not know says what kind of server it is.
fn message_of(status: &Status) -> String {
    if let Some(message) = frontend_caps::message(status.message()) {
        return message;
    }
    let message = status.message();
    if status.code() == Code::Unimplemented && message.contains("moby.buildkit") {
        return if message.starts_with("unknown service") {
            format!("the server speaks gRPC but is not BuildKit: {message}")
        } else {
            format!("this BuildKit is too old for that: {message}")
        };
    }
    match status.source() {
        Some(source) if status.message().is_empty() || status.code() == Code::Unknown => {
            let cause = crate::error::chain(source);
            if status.message().is_empty() || cause.contains(status.message()) {
                cause
            } else {
                format!("{}: {cause}", status.message())
            }
        }
        _ => status.message().to_owned(),
    }
}

#[derive(Deserialize)]
struct JsonVertex {
    #[serde(default)]
    digest: String,
}

#[derive(Deserialize)]
struct JsonSubrequest {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct JsonSource {
    info: Option<JsonSourceInfo>,
    #[serde(default)]
    ranges: Vec<JsonRange>,
}

#[derive(Deserialize)]
struct JsonSourceInfo {
    #[serde(default)]
    filename: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct JsonRange {
    #[serde(default)]
    start: JsonPosition,
    #[serde(default)]
    end: JsonPosition,
}

#[derive(Deserialize, Default)]
struct JsonPosition {
    #[serde(default)]
    line: i32,
    #[serde(default)]
    character: i32,
}

impl JsonSource {
    fn into_excerpt(self) -> Option<SourceExcerpt> {
        let info = self.info?;
        let data = STANDARD.decode(info.data).ok()?;
        let position = |p: &JsonPosition| {
            Some(Position {
                line: p.line,
                character: p.character,
            })
        };
        let ranges = self
            .ranges
            .iter()
            .map(|r| Range {
                start: position(&r.start),
                end: position(&r.end),
            })
            .collect();
        Some(SourceExcerpt {
            filename: info.filename,
            data,
            ranges,
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Any;

    use super::*;

    fn status_with(details: Vec<Any>) -> Status {
        let proto = rpc::Status {
            code: 2,
            message: "failed".into(),
            details,
        };
        Status::with_details(Code::Unknown, "failed", proto.encode_to_vec().into())
    }

    fn line(line: i32) -> Position {
        Position { line, character: 0 }
    }

    fn any(name: &str, json: &str) -> Any {
        Any {
            type_url: format!("github.com/moby/buildkit/errdefs.{name}+json"),
            value: json.as_bytes().to_vec(),
        }
    }

    #[test]
    fn source_lines_and_vertex_are_decoded() {
        let error = RpcError::from(status_with(vec![
            any("Vertex", r#"{"digest":"sha256:aa"}"#),
            any(
                "Source",
                r#"{"info":{"filename":"Dockerfile","data":"RlJPTSB4Cg=="},
                    "ranges":[{"start":{"line":1},"end":{"line":1}}]}"#,
            ),
        ]));
        assert_eq!(error.vertex.as_deref(), Some("sha256:aa"));
        assert_eq!(
            error.sources(),
            [SourceExcerpt {
                filename: "Dockerfile".into(),
                data: b"FROM x\n".to_vec(),
                ranges: vec![Range {
                    start: Some(line(1)),
                    end: Some(line(1))
                }],
            }]
        );
    }

    #[test]
    fn an_unknown_request_is_named() {
        let error = RpcError::from(status_with(vec![any(
            "Subrequest",
            r#"{"name":"frontend.lint"}"#,
        )]));
        assert_eq!(error.unsupported_subrequest(), Some("frontend.lint"));
    }

    #[test]
    fn details_that_do_not_parse_are_left_out() {
        let error = RpcError::from(status_with(vec![any("Source", "{"), any("Vertex", "[]")]));
        assert!(error.sources().is_empty());
        assert_eq!(error.message(), "failed");
    }

    #[test]
    fn what_a_server_does_not_know_is_explained() {
        for (message, want) in [
            (
                "unknown service moby.buildkit.v1.Control",
                "is not BuildKit",
            ),
            (
                "unknown method Prune for service moby.buildkit.v1.Control",
                "too old",
            ),
        ] {
            let text = RpcError::from(Status::unimplemented(message)).to_string();
            assert!(text.contains(want), "{text}");
            assert!(text.ends_with(message), "{text}");
        }
        let other = RpcError::from(Status::unimplemented("no such frontend"));
        assert_eq!(other.message(), "no such frontend");
    }

    #[test]
    fn codes_become_buildx_exit_codes() {
        for (code, kind) in [
            (Code::Internal, ErrorKind::Internal),
            (Code::ResourceExhausted, ErrorKind::ResourceExhausted),
            (Code::Cancelled, ErrorKind::Cancelled),
            (Code::Unknown, ErrorKind::Failed),
        ] {
            assert_eq!(RpcError::from(Status::new(code, "x")).kind(), kind);
        }
    }
}
