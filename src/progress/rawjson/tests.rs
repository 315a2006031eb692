use super::*;
use crate::progress::testing::{at, failed, log, part, stamp, vertex, vertices};
use bollard_buildkit_proto::moby::buildkit::v1::Vertex;
use bollard_buildkit_proto::pb;

#[test]
fn a_vertex_has_only_what_it_has() {
    assert_eq!(line(&vertices(Vec::new())), "{}");
    assert_eq!(
        line(&vertices(vec![Vertex {
            inputs: vec!["sha256:b".into()],
            cached: true,
            progress_group: Some(pb::ProgressGroup {
                id: "g".into(),
                name: "n".into(),
                weak: false
            }),
            ..vertex("sha256:a", "RUN a && b > c", Some(0), Some(1_500))
        }])),
        r#"{"vertexes":[{"digest":"sha256:a","inputs":["sha256:b"],"name":"RUN a \u0026\u0026 b \u003e c","started":"2026-11-24T12:00:00Z","completed":"2026-11-24T12:00:01.5Z","cached":true,"progressGroup":{"id":"g","name":"n"}}]}"#
    );
    assert_eq!(
        line(&failed("a", "n", 0, 0, "e")),
        r#"{"vertexes":[{"digest":"a","name":"n","started":"2026-11-24T12:00:00Z","completed":"2026-11-24T12:00:00Z","error":"e"}]}"#
    );
}

#[test]
fn statuses_and_logs() {
    assert_eq!(
        line(&part("a", "x", (0, 0), (0, 1), false)),
        r#"{"statuses":[{"id":"x","vertex":"a","current":0,"timestamp":"2026-11-24T12:00:00.001Z","started":"2026-11-24T12:00:00Z"}]}"#
    );
    assert_eq!(
        line(&part("a", "x", (5, 9), (0, 1), true)),
        r#"{"statuses":[{"id":"x","vertex":"a","total":9,"current":5,"timestamp":"2026-11-24T12:00:00.001Z","started":"2026-11-24T12:00:00Z","completed":"2026-11-24T12:00:00.001Z"}]}"#
    );
    let mut status = log("a", 0, "hi\n");
    status.logs[0].timestamp = None;
    status.logs.extend(log("a", 1, "").logs);
    assert_eq!(
        line(&status),
        r#"{"logs":[{"vertex":"a","stream":1,"data":"aGkK","timestamp":"1970-01-01T00:00:00Z"},{"vertex":"a","stream":1,"data":null,"timestamp":"2026-11-24T12:00:00.001Z"}]}"#
    );
}

#[test]
fn warnings_carry_their_source() {
    let metadata = pb::OpMetadata {
        description: [("k".to_owned(), "v".to_owned())].into(),
        caps: [("c".to_owned(), true)].into(),
        ..pb::OpMetadata::default()
    };
    let warning = VertexWarning {
        vertex: "a".into(),
        level: 1,
        short: b"s".to_vec(),
        detail: vec![b"d".to_vec()],
        url: "u".into(),
        info: Some(pb::SourceInfo {
            filename: "Dockerfile".into(),
            data: b"FROM".to_vec(),
            definition: Some(pb::Definition {
                def: vec![b"op".to_vec()],
                metadata: [("sha256:m".to_owned(), metadata)].into(),
                source: Some(pb::Source {
                    locations: [(
                        "sha256:m".to_owned(),
                        pb::Locations {
                            locations: vec![pb::Location::default()],
                        },
                    )]
                    .into(),
                    infos: Vec::new(),
                }),
            }),
            language: "Dockerfile".into(),
        }),
        ranges: vec![pb::Range {
            start: Some(pb::Position {
                line: 1,
                character: 0,
            }),
            end: Some(pb::Position {
                line: 1,
                character: 7,
            }),
        }],
    };
    let want = r#"{"vertex":"a","level":1,"short":"cw==","detail":["ZA=="],"url":"u","sourceInfo":{"filename":"Dockerfile","data":"RlJPTQ==","definition":{"def":["b3A="],"metadata":{"sha256:m":{"description":{"k":"v"},"caps":{"c":true}}},"Source":{"locations":{"sha256:m":{"locations":[{}]}}}},"language":"Dockerfile"},"range":[{"start":{"line":1},"end":{"line":1,"character":7}}]}"#;
    let mut status = vertices(Vec::new());
    status.warnings.push(warning.clone());
    assert_eq!(line(&status), format!(r#"{{"warnings":[{want}]}}"#));
    assert_eq!(warnings(&[warning]).to_string(), format!("[{want}]"));
}

#[test]
fn times_out_of_the_calendar_are_the_epoch() {
    let mut status = vertices(vec![vertex("a", "n", Some(0), None)]);
    status.vertexes[0].started = Some(bollard_buildkit_proto::google::protobuf::Timestamp {
        seconds: i64::MAX,
        nanos: -7,
    });
    assert!(line(&status).contains(r#""started":"1970-01-01T00:00:00Z""#));
    let mut nanos = stamp(0);
    nanos.nanos = 120_000_001;
    status.vertexes[0].started = Some(nanos);
    assert!(line(&status).contains(r#""started":"2026-11-24T12:00:00.120000001Z""#));
}

#[test]
fn each_report_is_a_line() {
    let mut model = Model::new(crate::progress::model::LogPolicy::lines(false));
    let mut out = Vec::new();
    RawJson.status(&mut model, &vertices(Vec::new()), at(0), &mut out);
    RawJson.tick(&mut model, at(0), &mut out);
    RawJson.end(&mut model, at(0), &mut out);
    assert_eq!(out, b"{}\n");
}
