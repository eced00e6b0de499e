//! What is TOML and what is not, against an independent reader.

use proptest::prelude::*;

use super::*;
use crate::node_config::tests::corpus::replay;

/// The same text, read by the `toml` crate.
fn other(text: &str) -> Option<toml::Table> {
    text.parse().ok()
}

/// Whether a tree says the same as that of the other reader.
fn same(ours: &Item, theirs: &toml::Value) -> bool {
    match (ours, theirs) {
        (Item::Text(text), toml::Value::String(other)) => text == other,
        (Item::Plain(text), toml::Value::Integer(other)) => text.parse() == Ok(*other),
        (Item::Plain(text), toml::Value::Boolean(other)) => text.parse() == Ok(*other),
        (Item::Plain(text), toml::Value::Float(other)) => text
            .parse::<f64>()
            .is_ok_and(|ours| ours.total_cmp(other).is_eq()),
        (Item::Plain(text), toml::Value::Datetime(other)) => text
            .parse::<toml::value::Datetime>()
            .is_ok_and(|ours| ours == *other),
        (Item::Array(ours), toml::Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
        }
        (Item::Table(ours), toml::Value::Table(theirs)) => same_tables(ours, theirs),
        _ => false,
    }
}

fn same_tables(ours: &Table, theirs: &toml::Table) -> bool {
    ours.len() == theirs.len()
        && ours
            .iter()
            .all(|(name, item)| theirs.get(name).is_some_and(|other| same(item, other)))
}

/// Both readers take it and agree, and what we write reads as the same.
fn assert_read(text: &str) {
    let theirs = other(text).unwrap_or_else(|| panic!("not TOML: {text}"));
    let ours = parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(same_tables(&ours, &theirs), "{text}\n{ours:?}\n{theirs:?}");
    let written = write(&ours);
    assert_eq!(parse(&written).as_ref(), Ok(&ours), "{written}");
    assert!(
        same_tables(&ours, &other(&written).unwrap()),
        "{text}\n{written}"
    );
    assert_eq!(write(&parse(&written).unwrap()), written);
}

#[test]
fn everything_that_toml_has_is_read() {
    for text in [
        "",
        "# nothing\n",
        "a = 1",
        "a = -17\nb = +3\nc = 1_000\nd = 0xff\ne = 0o17\nf = 0b101\n",
        "a = 1.5\nb = -1e6\nc = inf\nd = -inf\ne = 6.02_3e23\n",
        "a = true\nb = false\n",
        "a = 1979-05-27T07:32:00Z\nb = 1979-05-27\nc = 07:32:00\n",
        r#"a = "x\ty\"\u00e9\\""#,
        "a = 'C:\\x'\n",
        "a = \"\"\"\nfirst\n  second \\\n   third\"\"\"\nb = '''\nit's'''\n",
        "\"a b\" = 1\n'c.d' = 2\n\"\" = 3\n",
        "a.b.c = 1\na.b.d = 2\na.e = 3\n",
        "[a]\n[a.b]\nx = 1\n[c.d.e]\n",
        "[a.b.c]\nx = 1\n[a]\ny = 2\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc\"\n",
        "[ a . \"b\" ]\nx=1 # why\r\ny=2\r\n",
        "a = [1, 2, # one\n  3,\n]\nb = [[1], ['x']]\n",
        "a = { b = 1, c.d = 2, e = { f = [] } }\n",
        "[[a]]\nx = 1\n[[a]]\nx = 2\n[a.b]\ny = 3\n[[a.c]]\n",
        "a = [{b = 1}, {b = 2, c = []}]\n",
        "[x]\na.b = 1\n[x.a.c]\nd = 1\n",
        "a = \"\\u007f\u{e9}\\u0001\"\n",
    ] {
        assert_read(text);
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_place() {
    for (text, place) in [
        ("a", "1:"),
        ("a = ", "1:"),
        ("x = 1\na = foo\n", "2:5"),
        ("a = 1 b = 2\n", "1:"),
        ("a = 'x\n", "1:"),
        ("a = \"\\q\"\n", "1:"),
        ("[a\nb = 1\n", "1:"),
        ("a = [1, 2\n", ""),
        ("a = {b = 1\n", ""),
        ("a = 1\na = 2\n", "2:5"),
        ("a = 1\na.b = 2\n", "2:7"),
        ("a = {b = 1}\na.c = 2\n", "2:7"),
        ("a = {b = 1, b = 2}\n", "1:17"),
        ("[a]\n[a]\n", "2:3"),
        ("[a]\n[[a]]\n", "2:"),
        ("[[a]]\n[a]\n", "2:3"),
        ("a = []\n[[a]]\n", "2:"),
        ("a = 1\n[a.b]\n", "2:5"),
        ("[a]\nb.c = 1\n[a.b]\n", "3:5"),
        ("[a.b]\n[a]\nb.c = 1\n", "3:7"),
        ("[]\n", "1:"),
        ("a = 9223372036854775808\n", "1:5"),
        ("a = 0xffffffffffffffffff\n", "1:5"),
        ("a = 1__0\n", "1:"),
        ("a = 1979-05-\n", "1:5"),
        ("a = 1979-13-01\n", "1:5"),
        ("a = \u{0}\n", "1:"),
        ("= 1\n", "1:"),
    ] {
        let error = parse(text).expect_err(text);
        let found = format!("{}:{}", error.line, error.column);
        assert!(found.starts_with(place), "{text:?}: {error}");
        assert!(!error.problem.is_empty());
        assert!(other(text).is_none(), "{text:?} is TOML");
    }
}

#[test]
fn depth_is_bounded_however_it_comes_about() {
    let names = |count: usize| vec!["a"; count].join(".");
    assert!(parse(&format!("{} = 1\n", names(30))).is_ok());
    assert!(parse(&format!("[{}]\n", names(30))).is_ok());
    for text in [
        format!("{} = 1\n", names(100_000)),
        format!("[{}]\n", names(100_000)),
        format!("[[{}]]\n", names(100_000)),
        format!("[{}]\n{} = 1\n", names(20), names(20)),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("a = {{{} = 1}}", names(40)),
        format!("a = {}{}", "[".repeat(40), "]".repeat(40)),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.problem.contains("32 deep"), "{error}");
    }
}

#[test]
fn an_error_holds_nothing_of_the_text() {
    for text in [
        "a = \"hunter2\\q\"",
        "hunter2",
        "a = hunter2",
        "a = \"hunter2",
        "[hunter2]\n[hunter2]\n",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{text}");
    }
}

#[test]
fn tables_are_merged_and_everything_else_is_replaced() {
    let merged = |earlier, later| merge_texts(earlier, later).unwrap();
    for (earlier, later, expected) in [
        ("a = 1\n", "b = 2\n", "a = 1\nb = 2\n"),
        ("a = 1\n", "a = ''\n", "a = ''\n"),
        ("a = [1, 2]\n", "a = []\n", "a = []\n"),
        ("[a]\nx = 1\n", "[a]\ny = 2\n", "[a]\nx = 1\ny = 2\n"),
        ("[a]\nx = 1\n", "[a]\n", "[a]\nx = 1\n"),
        ("[a]\nx = 1\n", "a = 1\n", "a = 1\n"),
        ("a = 1\n", "[a]\nx = 1\n", "[a]\nx = 1\n"),
        ("", "", ""),
        ("[[a]]\nx = 1\n", "[[a]]\ny = 1\n", "a = [{ y = 1 }]\n"),
        (
            "version = 2\n[plugins.'x.y'.c]\nk = true\n",
            "[plugins.'x.y'.d]\nk = false\n",
            "version = 2\n\n[plugins]\n[plugins.'x.y']\n[plugins.'x.y'.c]\nk = true\n\n[plugins.'x.y'.d]\nk = false\n",
        ),
    ] {
        assert_eq!(merged(earlier, later), expected, "{earlier:?} {later:?}");
    }
    assert!(merge_texts("a = 1", "a").is_err());
    assert!(merge_texts("a", "a = 1").is_err());
}

#[test]
fn headers_stand_for_every_table_with_room_only_below_values() {
    let text = "[a.b.c.d]\nf = 0\ne = 0\n";
    assert_eq!(
        write(&parse(text).unwrap()),
        "[a]\n[a.b]\n[a.b.c]\n[a.b.c.d]\ne = 0\nf = 0\n"
    );
    let text = "z = ['it''s']\n".replace("''", "\\'").replace('\'', "\"");
    let text = text.replace("\\\"", "'");
    assert_eq!(
        write(&parse(&format!("{text}[a]\n[b]\nx = ['y']\n[c]\n")).unwrap()),
        "z = [\"it's\"]\n\n[a]\n[b]\nx = ['y']\n\n[c]\n"
    );
}

#[test]
fn corpus() {
    replay("toml_merge", 300, |input| {
        let text = String::from_utf8_lossy(input);
        let (earlier, later) = text.split_once("\n===\n").unwrap_or((&text, ""));
        if let Ok(merged) = merge_texts(earlier, later) {
            assert_eq!(merge_texts(&merged, later).unwrap(), merged);
            assert!(other(&merged).is_some(), "{merged}");
        }
    });
}

fn items() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        "\\PC{0,12}".prop_map(Item::Text),
        "[ -~\n\t\r\u{1}\u{7f}'\"\\\\]{0,12}".prop_map(Item::Text),
        any::<i64>().prop_map(|number| Item::Plain(number.to_string())),
        any::<bool>().prop_map(|value| Item::Plain(value.to_string())),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Item::Array),
            prop::collection::btree_map("[a-z. '\"\\\\é]{0,6}", inner, 0..5).prop_map(Item::Table),
        ]
    })
}

fn tables() -> impl Strategy<Value = Table> {
    prop::collection::btree_map("[a-c]|\\PC{0,5}", items(), 0..6)
}

/// The merge, said once more in another way: for every path of names the value of
/// the later one counts if it has one.
fn looked_up<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Item> {
    let (first, rest) = path.split_first()?;
    let item = table.get(*first)?;
    match item {
        Item::Table(inner) if !rest.is_empty() => looked_up(inner, rest),
        _ if rest.is_empty() => Some(item),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(table in tables()) {
        let written = write(&table);
        prop_assert_eq!(parse(&written), Ok(table.clone()), "{}", written);
        prop_assert!(same_tables(&table, &other(&written).unwrap()));
    }

    #[test]
    fn merging_keeps_all_that_the_later_says_and_all_else(earlier in tables(), later in tables()) {
        let mut merged = earlier.clone();
        merge(&mut merged, later.clone());
        for (name, item) in &later {
            if !matches!(item, Item::Table(_)) {
                prop_assert_eq!(looked_up(&merged, &[name.as_str()]), Some(item));
            }
        }
        for (name, item) in &earlier {
            if !later.contains_key(name) {
                prop_assert_eq!(looked_up(&merged, &[name.as_str()]), Some(item));
            }
        }
        let mut again = merged.clone();
        merge(&mut again, later);
        prop_assert_eq!(again, merged);
    }

    // Where both readers take a text they agree; what the other refuses, we do.
    #[test]
    fn both_readers_agree(text in "([ab.\\[\\]{}=,'\" 1]|\n){0,24}") {
        match (parse(&text), other(&text)) {
            (Ok(ours), Some(theirs)) => prop_assert!(same_tables(&ours, &theirs)),
            (Err(_), None) => {}
            (ours, theirs) => prop_assert!(false, "{:?}: {:?} {:?}", text, ours, theirs),
        }
    }
}
