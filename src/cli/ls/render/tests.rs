use super::*;
use crate::builder::Status;
use crate::builder::group::{FileContent, StoredNode};
use crate::builder::load::GcRule;
use crate::builder::platform::Platform;

fn data() -> Vec<LoadedBuilder> {
    let platforms = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| Platform::parse(t).unwrap())
            .collect::<Vec<_>>()
    };
    let node = |name: &str, endpoint: &str| LoadedNode {
        stored: StoredNode {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            ..StoredNode::default()
        },
        ..LoadedNode::default()
    };
    let mut first = node("foo0", "unix:///var/run/docker.sock");
    first.stored.platforms = platforms(&["linux/arm64"]);
    first.stored.flags = vec!["--debug".to_owned()];
    first.stored.driver_opts = BTreeMap::from([("network".to_owned(), "host".to_owned())]);
    first.stored.files = BTreeMap::from([(
        "buildkitd.toml".to_owned(),
        FileContent(b"a = 1\n".to_vec()),
    )]);
    first.platforms = platforms(&["linux/arm64", "linux/amd64", "linux/amd64/v2", "linux/386"]);
    first.status = Some(Status::Running);
    first.version = "v0.29.0".to_owned();
    first.ids = vec!["id1".to_owned()];
    first.labels = BTreeMap::from([("l".to_owned(), "v".to_owned())]);
    first.gc_policy = vec![GcRule {
        filters: vec!["type==source.local".to_owned()],
        keep_duration: std::time::Duration::from_secs(172_800),
        max_used_space: 512_000_000,
        ..GcRule::default()
    }];
    let mut second = node("foo1", "other");
    second.error = Some("cannot connect\n".to_owned());
    let mut context = node("default", "default");
    context.status = Some(Status::Running);
    vec![
        LoadedBuilder {
            name: "foo".to_owned(),
            driver: "docker-container".to_owned(),
            last_activity: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            nodes: vec![first, second],
            ..LoadedBuilder::default()
        },
        LoadedBuilder {
            name: "default".to_owned(),
            driver: "docker".to_owned(),
            is_context: true,
            nodes: vec![context],
            ..LoadedBuilder::default()
        },
        LoadedBuilder {
            name: "far".to_owned(),
            is_context: true,
            error: Some("no answer".to_owned()),
            ..LoadedBuilder::default()
        },
    ]
}

fn render(format: &str, truncate: bool) -> String {
    let builders = data();
    let list = Listing {
        builders: &builders,
        current: "foo",
        truncate,
    };
    list.render(&super::format(format).unwrap()).unwrap()
}

#[test]
fn the_table_is_that_of_buildx() {
    let expected = "\
NAME/NODE     DRIVER/ENDPOINT                   STATUS    BUILDKIT   PLATFORMS
foo*          docker-container                                       
 \\_ foo0       \\_ unix:///var/run/docker.sock   running   v0.29.0    linux/amd64 (+2), linux/arm64*, linux/386
 \\_ foo1       \\_ other                         error                
default       docker                                                 
 \\_ default    \\_ default                       running              
far                                             error                
";
    assert_eq!(render("table", true), expected);
    let whole = render("table {{.Name}}\\t{{.Platforms}}", false);
    assert!(whole.contains("linux/arm64*, linux/amd64, linux/amd64/v2, linux/386"));
    assert!(whole.starts_with("NAME/NODE     PLATFORMS\n"));
}

#[test]
fn templates_have_a_line_per_builder_and_node() {
    assert_eq!(
        render(
            "{{.Name}}: {{.DriverEndpoint}}, Last activity: {{.LastActivity}}",
            true
        ),
        "foo: docker-container, Last activity: 2026-01-02T03:04:05Z\n\
         foo0: unix:///var/run/docker.sock, Last activity: \n\
         foo1: other, Last activity: \n\
         default: docker, Last activity: \n\
         default: default, Last activity: \n\
         far: , Last activity: \n"
    );
    assert_eq!(
        render("{{.Name}} {{.Error}}", true).lines().nth(2),
        Some("foo1 cannot connect")
    );
    assert!(format("{{.Name").is_err());
}

#[test]
fn json_is_that_of_buildx() {
    let text = render("json", true);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"Current":true,"Driver":"docker-container","Dynamic":false,"LastActivity":"2026-01-02T03:04:05Z","Name":"foo","Nodes":[{"DriverOpts":{"network":"host"},"Endpoint":"unix:///var/run/docker.sock","Files":{"buildkitd.toml":"YSA9IDEK"},"Flags":["--debug"],"GCPolicy":[{"all":false,"filter":["type==source.local"],"keepDuration":172800000000000,"maxUsedSpace":512000000,"minFreeSpace":0,"reservedSpace":0}],"IDs":["id1"],"Labels":{"l":"v"},"Name":"foo0","Platforms":["linux/arm64","linux/amd64","linux/amd64/v2","linux/386"],"Status":"running","Version":"v0.29.0"},{"Endpoint":"other","Err":"cannot connect","Name":"foo1","Status":"error"}]}"#
    );
    assert!(lines[2].contains(r#""Err":"no answer","LastActivity":"0001-01-01T00:00:00Z""#));
    assert_eq!(render("{{json .}}", true).lines().next(), Some(lines[0]));
}

#[test]
fn errors_are_told_one_by_one() {
    let builders = data();
    let list = Listing {
        builders: &builders,
        current: "foo",
        truncate: true,
    };
    assert_eq!(
        list.errors(),
        [
            "Failed to get status for foo (foo1): cannot connect",
            "Cannot load builder far: no answer"
        ]
    );
}
