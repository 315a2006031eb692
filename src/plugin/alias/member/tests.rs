use proptest::prelude::*;

use super::*;

const DIR: &str = "/home/u/\"odd\\ /plugins";

fn there_and_back(text: &str) -> String {
    let (with, before) = insert(text, DIR).unwrap();
    let value: Value = serde_json::from_str(with.trim_start_matches('\u{feff}')).unwrap();
    assert!(value.is_object(), "{with}");
    assert_eq!(entries(&with).unwrap()[0], DIR, "{with}");
    assert_eq!(
        entries(&with).unwrap()[1..],
        entries(text).unwrap(),
        "{with}"
    );
    let back = remove(&with, DIR, before).unwrap();
    assert_eq!(
        back.as_deref(),
        (before != Before::Nothing).then_some(text),
        "{with}"
    );
    with
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    for text in [
        "",
        " \n",
        "{}",
        "{ }\n",
        "{\n}\n",
        "{\"auths\":{}}",
        "{\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"credsStore\": \"x,y{\"\n}",
        "{\"n\": 12345678901234567890123.4500e1, \"n\": 2}\r\n",
        "{\"cliPluginsExtraDirs\": null}",
        "{\"cliPluginsExtraDirs\":[]}",
        "{\"cliPluginsExtraDirs\" : [ ] , \"a\":1}",
        "{\"a\":[\"]\"],\"CliPluginsExtradirs\":[\"/a\",\"/b\"]}",
        "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"/a\"\n\t],\n\t\"z\": \"\\\"\"\n}\n",
        "\u{feff}{\"a\":\"\u{fc}\"}",
    ] {
        there_and_back(text);
    }
}

#[test]
fn the_layout_of_the_file_is_kept() {
    assert_eq!(
        insert("{\n\t\"a\": 1\n}", "/d").unwrap().0,
        "{\n\t\"cliPluginsExtraDirs\": [\"/d\"],\n\t\"a\": 1\n}"
    );
    assert_eq!(
        insert("{\"cliPluginsExtraDirs\": [\n  \"/a\"\n]}", "/d")
            .unwrap()
            .0,
        "{\"cliPluginsExtraDirs\": [\n  \"/d\",\n  \"/a\"\n]}"
    );
    assert_eq!(
        insert("", "/d").unwrap().0,
        "{\n\t\"cliPluginsExtraDirs\": [\n\t\t\"/d\"\n\t]\n}\n"
    );
}

#[test]
fn an_entry_goes_from_a_file_that_others_have_written_anew() {
    for (text, before, want) in [
        // docker login sorts and lays out anew.
        (
            "{\n\t\"auths\": {},\n\t\"cliPluginsExtraDirs\": [\n\t\t\"/d\"\n\t]\n}",
            Before::Nothing,
            Some("{\n\t\"auths\": {}\n}"),
        ),
        (
            "{\"cliPluginsExtraDirs\":[\"/a\",\"/d\",\"/b\"]}",
            Before::NoList,
            Some("{\"cliPluginsExtraDirs\":[\"/a\",\"/b\"]}"),
        ),
        (
            "{\"a\":1,\"cliPluginsExtraDirs\":[\"/d\"],\"b\":2}",
            Before::NoList,
            Some("{\"a\":1,\"b\":2}"),
        ),
        (
            "{\"cliPluginsExtraDirs\": [\"/d\"]}",
            Before::List,
            Some("{\"cliPluginsExtraDirs\": []}"),
        ),
        (
            "{ \"cliPluginsExtraDirs\": [\"/d\"] }",
            Before::Nothing,
            None,
        ),
        // Put in more than once, by hand or by another program.
        (
            "{\"cliPluginsExtraDirs\":[\"/d\",\"/a\",\"/d/\",\"/b\",\"//d\"]}",
            Before::List,
            Some("{\"cliPluginsExtraDirs\":[\"/a\",\"/b\"]}"),
        ),
        (
            "{\"cliPluginsExtraDirs\":[\"/d\",\"/d\"],\"b\":2}",
            Before::NoList,
            Some("{\"b\":2}"),
        ),
        ("{\"a\":1}", Before::NoList, Some("{\"a\":1}")),
        ("", Before::Nothing, Some("")),
    ] {
        assert_eq!(
            remove(text, "/d", before).unwrap().as_deref(),
            want,
            "{text}"
        );
    }
}

#[test]
fn what_docker_does_not_write_is_refused() {
    for text in [
        "{",
        "[]",
        "null",
        "x",
        "{\"cliPluginsExtraDirs\": \"/a\"}",
        "{\"cliPluginsExtraDirs\": [1]}",
        "{\"cliPluginsExtraDirs\": {}}",
    ] {
        assert!(insert(text, DIR).is_err(), "{text}");
        assert!(remove(text, DIR, Before::List).is_err(), "{text}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[\\PC\\\\\"{}\\[\\],:]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[\\PC\"\\\\]{0,4}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_file_comes_back(
        members in prop::collection::vec(("[\\PC\"\\\\]{0,4}", json()), 0..4),
        list in prop::option::of(prop::collection::vec("[\\PC\"]{0,4}", 0..3)),
        at in any::<prop::sample::Index>(),
        pretty in any::<bool>(),
    ) {
        let mut members = members;
        if let Some(list) = list {
            members.insert(at.index(members.len() + 1), (KEY.to_owned(), list.into()));
        }
        let value = Value::Object(members.into_iter().collect());
        there_and_back(&if pretty { format!("{value:#}\n") } else { value.to_string() });
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\",: \\\\a\u{fc}]{0,20}") {
        let _ = insert(&text, DIR);
        let _ = remove(&text, DIR, Before::NoList);
    }
}
