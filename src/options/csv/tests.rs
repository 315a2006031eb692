use proptest::prelude::*;

use super::*;

fn texts(line: &str) -> Vec<String> {
    fields(line)
        .unwrap()
        .into_iter()
        .map(|field| field.text)
        .collect()
}

#[test]
fn lines() {
    let cases: [(&str, &[&str]); 14] = [
        ("a", &["a"]),
        ("a,b", &["a", "b"]),
        ("a,", &["a", ""]),
        (",", &["", ""]),
        (" a , b ", &[" a ", " b "]),
        (r#""a""#, &["a"]),
        (r#""""#, &[""]),
        (r#""a,b",c"#, &["a,b", "c"]),
        (r#"a,"b,c""#, &["a", "b,c"]),
        (r#""a""b","""c""""#, &["a\"b", "\"c\""]),
        ("a,b\n", &["a", "b"]),
        ("a,b\r\n", &["a", "b"]),
        ("a\nb", &["a\nb"]),
        (
            r#"type=sbom,"FOO=ä,ö",x=y"#,
            &["type=sbom", "FOO=ä,ö", "x=y"],
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(texts(line), expected, "{line:?}");
    }
}

#[test]
fn positions_are_columns_of_the_fields() {
    let positions: Vec<usize> = fields(r#"ä,"b,""c",d"#)
        .unwrap()
        .iter()
        .map(|field| field.position)
        .collect();
    assert_eq!(positions, [1, 4, 12]);
}

#[test]
fn errors_have_positions() {
    for (line, column) in [
        ("a\"b", 2),
        ("x,a\"", 4),
        (r#""a"b"#, 3),
        (r#"x,"a" ,c"#, 5),
        (r#""a"#, 2),
        (r#"x,"a,b"#, 4),
        (r#""a"""#, 5),
    ] {
        let error = fields(line).unwrap_err();
        assert_eq!(error.position, Some(column), "{line}");
        let text = error.to_string();
        assert!(text.contains(&format!("at column {column} in ")), "{text}");
    }
    for line in ["", "\n", "\r\n"] {
        assert_eq!(
            fields(line).unwrap_err().to_string(),
            "empty value, expected a comma-separated list"
        );
    }
}

#[test]
fn pairs_are_taken_and_the_rest_is_unknown() {
    let mut pairs = KeyValues::parse("A=1,b=x=y,c=,b=z,mod=q").unwrap();
    assert_eq!(pairs.take("a").as_deref(), Some("1"));
    assert_eq!(pairs.take("a"), None);
    assert_eq!(pairs.take("b").as_deref(), Some("z"));
    assert_eq!(
        pairs.take_required("c").unwrap_err().to_string(),
        r#"key "c" is required in "A=1,b=x=y,c=,b=z,mod=q""#
    );
    let error = pairs.finish(&["mode"]).unwrap_err();
    assert_eq!(error.position, Some(18));
    assert_eq!(error.suggestion.as_deref(), Some("mode"));
}

#[test]
fn duplicates_are_refused() {
    let error = KeyValues::parse("a=1,b=2,A=3")
        .unwrap()
        .refuse_duplicates()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"key "a" is given more than once in "a=1,b=2,A=3""#
    );
    assert_eq!(error.position, Some(9));
}

#[test]
fn booleans_and_words() {
    let mut pairs = KeyValues::parse("a=T,b=no,c=maxx").unwrap();
    assert_eq!(pairs.take_bool("a").unwrap(), Some(true));
    assert_eq!(pairs.take_bool("none").unwrap(), None);
    let error = pairs.take_bool("b").unwrap_err().to_string();
    assert_eq!(
        error,
        r#"invalid value "no" for "b", expected true or false in "a=T,b=no,c=maxx""#
    );
    let error = pairs
        .take_word("c", &[("min", 1), ("max", 2)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected min or max"), "{error}");
    assert!(error.ends_with(r#"did you mean "max"?"#), "{error}");
}

#[test]
fn secrets_are_masked() {
    let pairs = KeyValues::parse("a=1,token=hunter2").unwrap();
    assert_eq!(format!("{pairs:?}"), "[a=1, token=…]");
}

proptest! {
    #[test]
    fn fields_reads_what_writer_writes(
        list in prop::collection::vec("([a-z,\" \n\r=]|\\PC){0,8}", 1..5)
    ) {
        let mut writer = Writer::new();
        for field in &list {
            writer.field(field);
        }
        prop_assert_eq!(texts(&writer.finish()), list);
    }

    #[test]
    fn never_panics_and_stays_in_the_line(line in "([a,\"\n\r]|\\PC){0,20}") {
        match fields(&line) {
            Ok(fields) => {
                for field in fields {
                    prop_assert!(field.position <= line.len() + 1);
                }
            }
            Err(error) => prop_assert!(error.position.unwrap_or(1) <= line.len() + 1),
        }
    }
}
