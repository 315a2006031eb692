use super::*;

fn data() -> Value {
    serde_json::json!({
        "Name": "foo", "Empty": "", "List": ["a", "b"], "Yes": true, "Map": {"b": 2, "a": 1}, "None": [],
        "Number": 7, "Html": "a > b & <c>\u{2028}", "Type": "docker-container", "Deep": {"Map": {"K": "v"}}
    })
}

fn render(template: &str) -> Result<String, TemplateError> {
    Template::parse(template)?.render_data(&data())
}

/// Templates and what they show.
const RENDERED: &[(&str, &str)] = &[
    ("plain", "plain"),
    ("{{.Name}}", "foo"),
    ("{{ .Name }}\t{{.Yes}}", "foo\ttrue"),
    ("{{json .Name}}", "\"foo\""),
    ("{{json .List}} {{.List}}", "[\"a\",\"b\"] [a b]"),
    ("{{json .Html}}", r#""a > b & <c>\u2028""#),
    (
        "{{.Map.a}} {{.Map}} {{.Deep}}",
        "1 map[a:1 b:2] map[Map:map[K:v]]",
    ),
    ("{{(.Deep).Map.K}} {{$.Deep.Map.K}}", "v v"),
    (
        "{{upper .Name}} {{.Name | upper | lower}} {{title .Type}} {{title \"a_b c.d\"}}",
        "FOO foo Docker-Container A_b C.D",
    ),
    ("{{len .List}} {{len .Name}}", "2 3"),
    ("{{\"x y\"}}{{`\\t}}`}}", "x y\\t}}"),
    ("{{if .Empty}}a{{else}}b{{end}}{{if .Name}}c{{end}}", "bc"),
    ("{{if .Empty}}a{{else if .Name}}b{{else}}c{{end}}", "b"),
    (
        "{{with .Deep.Map}}{{.K}} {{$.Name}}{{else}}x{{end}}",
        "v foo",
    ),
    (
        "{{range .List}}<{{.}}>{{end}}{{range .None}}x{{else}}y{{end}}",
        "<a><b>y",
    ),
    ("{{range $i, $x := .List}}{{$i}}={{$x}} {{end}}", "0=a 1=b "),
    (
        "{{range $k, $v := .Map}}{{$k}}{{$v}}{{end}} {{.Name}}",
        "a1b2 foo",
    ),
    ("{{$x := .Name}}{{$x}} {{$x = \"y\"}}{{$x}}", "foo y"),
    ("a  {{- .Name -}}  b", "afoob"),
    ("a{{/* no */}}b{{- /* no */ -}} c", "abc"),
    (
        "{{split .Type \"-\"}} {{join .List \", \"}} {{join (split .Type \"-\") \"+\"}}",
        "[docker container] a, b docker+container",
    ),
    (
        "{{pad .Name 1 2}}|{{pad .Empty 1 2}}|{{truncate .Type 6}}|{{truncate .Name 9}}",
        " foo  ||docker|foo",
    ),
    ("{{truncate \"aé\" 2}}", "a"),
    (
        "{{print .Name .Number .Yes}}|{{println .Name 1}}",
        "foo7 true|foo 1\n",
    ),
    (
        "{{printf \"%-5s|%5s|%q|%d|%03d|%v|%t|100%%\" .Name .Name .Name .Number .Number .List .Yes}}",
        "foo  |  foo|\"foo\"|7|007|[a b]|true|100%",
    ),
    ("{{printf \"%d %s\" .Name}}", "%!d(string=foo) %!s(MISSING)"),
    ("{{printf \"%s\" .Name 1}}", "foo%!(EXTRA int=1)"),
    ("{{.Name | printf \"%s-%s\" \"a\"}}", "a-foo"),
    (
        "{{index .List 1}}{{index .Map \"b\"}}{{slice .Type 7}}{{slice .List 0 1}}",
        "b2container[a]",
    ),
    (
        "{{eq .Name \"x\" \"foo\"}} {{ne .Number 7}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
        "true false true true",
    ),
    (
        "{{and .Name .Empty .Yes}}|{{or .Empty .Number}}|{{not .Yes}}",
        "|7|false",
    ),
    (
        "{{if and (eq .Name \"foo\") (not .Empty)}}yes{{end}}",
        "yes",
    ),
];

#[test]
fn templates_are_rendered_as_go_does() {
    for (template, expected) in RENDERED {
        assert_eq!(render(template).as_deref(), Ok(*expected), "{template}");
    }
}

#[test]
fn what_is_not_understood_is_an_error() {
    for bad in [
        "{{.Name",
        "{{\"}}",
        "{{.Nothing}}",
        "{{range .List}}",
        "{{range .Name}}{{end}}",
        "{{range .List}}{{.Name}}{{end}}",
        "{{end}}",
        "{{if .Name}}",
        "{{if .Name}}{{else}}{{else}}{{end}}",
        "{{else if .Name}}{{end}}",
        "{{foo .Name}}",
        "{{}}",
        "{{.Name | nope}}",
        "{{.Name | .Name}}",
        "{{.Name .Name}}",
        "{{upper}}",
        "{{upper .Yes}}",
        "{{upper .Name .Name}}",
        "{{json}}",
        "{{join .Name \",\"}}",
        "{{pad .Name 1}}",
        "{{pad .Name 99999999 1}}",
        "{{truncate .Name -1}}",
        "{{index .List 2}}",
        "{{slice .Name 2 1}}",
        "{{eq .Name 1}}",
        "{{and}}",
        "{{printf .Name}}",
        "{{printf \"%x\" .Name}}",
        "{{printf \"%99999d\" 1}}",
        "{{$x}}",
        "{{$x = 1}}",
        "{{(.Name}}",
        "{{.Name)}}",
        "{{define \"x\"}}{{end}}",
        "{{template \"x\"}}",
        "{{break}}",
    ] {
        assert!(render(bad).is_err(), "{bad}");
    }
    let deep = [
        format!(
            "{{{{{}.Name{}}}}}",
            "(".repeat(100_000),
            ")".repeat(100_000)
        ),
        format!("{}{}", "{{if 1}}".repeat(20_000), "{{end}}".repeat(20_000)),
        format!("{{{{if 1}}}}{}{{{{end}}}}", "{{else if 1}}".repeat(20_000)),
    ];
    for deep in deep {
        assert!(Template::parse(&deep).is_err());
    }
}

#[test]
fn rows_are_those_of_docker_s_lists() {
    let whole = serde_json::json!({"Description": "a > b", "Parents": null});
    let fields = serde_json::json!({"Description": "a > b", "Parents": []});
    for (template, expected) in [
        (
            "{{json .}}",
            r#"{"Description":"a \u003e b","Parents":null}"#,
        ),
        ("{{json .Description}} {{json .Parents}}", "\"a > b\" null"),
        ("{{.Parents}}|{{join .Parents \",\"}}", "[]|"),
    ] {
        let template = Template::parse(template).unwrap();
        let rendered = template.render(&fields, &whole);
        assert_eq!(rendered.as_deref(), Ok(expected));
    }
}

#[test]
fn headers_stay_as_they_are() {
    let headers = serde_json::json!({"Name": "NAME", "Parents": "PARENTS"});
    for (template, expected) in [
        (
            "{{.Name}}\t{{lower .Name}}\t{{title .Name}}\t{{json .Name}}",
            "NAME\tNAME\tNAME\tNAME",
        ),
        (
            "{{truncate .Name 2}}\t{{join .Parents \",\"}}\t{{split .Name \"A\"}}",
            "NAME\tPARENTS\tNAME",
        ),
        (
            "{{pad .Name 1 1}}|{{printf \"%6s\" .Name}}",
            " NAME |  NAME",
        ),
        ("{{.Error}}", "<no value>"),
        ("{{.Name}} {{range .Parents}}x{{end}} y", "NAME "),
        ("{{.Name}} {{len .Name}} {{index .Name 0}} y", "NAME 4 "),
    ] {
        let template = Template::parse(template).unwrap();
        assert_eq!(template.render_headers(&headers), expected);
    }
}

proptest::proptest! {
    #[test]
    fn no_template_panics(text in "([{]{2}|[}]{2}|[{}.a |\"()$:=`\\-%]|if |range |end|printf |pad |slice |1|é){0,30}") {
        let _ = render(&text);
    }
}
