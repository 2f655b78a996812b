use millstream_plugin::{Failure, Message, Output};

use super::Rules;

fn routed(rules: &str, message: Message) -> Result<Vec<Output>, Failure> {
    Rules::read(rules).unwrap_or_else(|error| panic!("{error}")).apply(message)
}

/// The names of the outputs that a document goes to.
#[track_caller]
fn goes_to(rules: &str, document: &str) -> Vec<String> {
    let outputs = routed(rules, Message::new(document)).unwrap();
    let name = |output: Output| match output.to {
        millstream_plugin::Destination::Named(name) => name,
        other => format!("{other:?}").to_lowercase(),
    };
    outputs.into_iter().map(name).collect()
}

#[track_caller]
fn mapped(steps: &str, document: &str) -> String {
    let message = Message::new(document).with_key("k-1").with_header("source", "web");
    let outputs = routed(&format!(r#"{{"map":{steps}}}"#), message).unwrap();
    String::from_utf8(outputs[0].value.clone().unwrap()).unwrap()
}

#[track_caller]
fn holds(condition: &str, document: &str) -> bool {
    let rules = format!(r#"{{"filter":[{condition}]}}"#);
    let message = Message::new(document).with_key("k-1").with_header("source", "web");
    !routed(&rules, message).unwrap().is_empty()
}

#[test]
fn empty_rules_pass_everything_as_it_came() {
    let message =
        Message::new("{ \"a\" : 1.0 }").with_key("k").with_header("n", b"\xff".as_slice());
    assert_eq!(routed("{}", message.clone()), Ok(vec![Output::from(message)]));
}

#[test]
fn each_operator_asks_what_it_says() {
    let document = r#"{"n":5,"s":"paid","null":null,"list":[1,"x"],"o":{"a":1.0,"b":2}}"#;
    for (condition, expected) in [
        (r#"{"at":"/n","exists":true}"#, true),
        (r#"{"at":"/null","exists":true}"#, true),
        (r#"{"at":"/none","exists":true}"#, false),
        (r#"{"at":"/none","exists":false}"#, true),
        (r#"{"at":"/n","=":5.0}"#, true),
        (r#"{"at":"/n","=":"5"}"#, false),
        (r#"{"at":"/o","=":{"b":2,"a":1}}"#, true),
        (r#"{"at":"/null","=":null}"#, true),
        (r#"{"at":"/none","=":null}"#, false),
        (r#"{"at":"/s","!=":"open"}"#, true),
        (r#"{"at":"/s","!=":"paid"}"#, false),
        (r#"{"at":"/none","!=":"paid"}"#, true),
        (r#"{"at":"/n","<":5}"#, false),
        (r#"{"at":"/n","<=":5}"#, true),
        (r#"{"at":"/n",">":4.9}"#, true),
        (r#"{"at":"/n",">=":6}"#, false),
        (r#"{"at":"/s",">":"open"}"#, true),
        (r#"{"at":"/s",">":1}"#, false),
        (r#"{"at":"/none","<":1}"#, false),
        (r#"{"at":"/s","in":["open","paid"]}"#, true),
        (r#"{"at":"/s","in":[]}"#, false),
        (r#"{"at":"/s","contains":"ai"}"#, true),
        (r#"{"at":"/list","contains":1.0}"#, true),
        (r#"{"at":"/list","contains":2}"#, false),
        (r#"{"at":"/n","contains":5}"#, false),
        (r#"{"at":"/s","starts_with":"pa"}"#, true),
        (r#"{"at":"/s","starts_with":"ai"}"#, false),
        (r#"{"at":"/list/1","=":"x"}"#, true),
        (r#"{"header":"source","=":"web"}"#, true),
        (r#"{"header":"none","exists":false}"#, true),
        (r#"{"key":true,"starts_with":"k-"}"#, true),
        (r#"{"any":[{"at":"/n","=":1},{"at":"/n","=":5}]}"#, true),
        (r#"{"any":[]}"#, false),
        (r#"{"none":[{"at":"/n","=":1},{"at":"/n","=":5}]}"#, false),
        (r#"{"none":[{"any":[{"at":"/n","=":1}]}]}"#, true),
    ] {
        assert_eq!(holds(condition, document), expected, "{condition}");
    }
}

#[test]
fn all_conditions_of_a_filter_must_hold() {
    let rules = r#"{"filter":[{"at":"/a","=":1},{"at":"/b","=":2}]}"#;
    assert_eq!(goes_to(rules, r#"{"a":1,"b":2}"#), ["default"]);
    assert!(goes_to(rules, r#"{"a":1,"b":3}"#).is_empty());
}

#[test]
fn the_first_route_that_matches_is_taken() {
    let rules = r#"{
        "route": [
            {"when": [{"at":"/test","=":true}], "drop": true},
            {"when": [{"at":"/country","in":["DE","FR"]}], "to": "eu"},
            {"when": [{"at":"/total",">":100}], "to": ["large","audit","reply"]}
        ],
        "otherwise": {"to": "rest"}
    }"#;
    assert!(goes_to(rules, r#"{"test":true,"country":"DE"}"#).is_empty());
    assert_eq!(goes_to(rules, r#"{"country":"DE","total":500}"#), ["eu"]);
    assert_eq!(goes_to(rules, r#"{"country":"US","total":500}"#), ["large", "audit", "reply"]);
    assert_eq!(goes_to(rules, r#"{"country":"US"}"#), ["rest"]);
    assert!(goes_to(r#"{"otherwise":{"drop":true}}"#, "1").is_empty());
}

#[test]
fn the_steps_of_a_map_go_in_their_order() {
    let steps = r#"[
        {"set":"/source","from":"header:source"},
        {"set":"/meta/id","from":"key"},
        {"set":"/meta/at","from":"offset"},
        {"set":"/version","value":{"major":2}},
        {"rename":"/qty","to":"/quantity"},
        {"copy":"/quantity","to":"/ordered"},
        {"remove":"/password"},
        {"set":"/none","from":"header:none"},
        {"rename":"/absent","to":"/x"},
        {"remove":"/absent"}
    ]"#;
    assert_eq!(
        mapped(steps, r#"{"z":1,"qty":3,"password":"p","a":2}"#),
        r#"{"z":1,"a":2,"source":"web","meta":{"id":"k-1","at":0},"version":{"major":2},"quantity":3,"ordered":3}"#
    );
    let keep = r#"[{"keep":["/b","/a/x","/none"]}]"#;
    assert_eq!(mapped(keep, r#"{"a":{"x":1,"y":2},"b":3}"#), r#"{"b":3,"a":{"x":1}}"#);
}

#[test]
fn a_step_that_cannot_be_done_rejects_and_is_named() {
    let rules = r#"{"map":[{"remove":"/x"},{"set":"/a/b","value":1}]}"#;
    let failure = routed(rules, Message::new(r#"{"a":"text"}"#)).unwrap_err();
    assert!(failure.is_reject());
    let reason = "map[1]: can't write `/a/b`: what holds `b` is neither object nor list";
    assert_eq!(failure.reason(), reason);

    let rules = r#"{"map":[{"set":"/k","from":"key"}]}"#;
    let message = Message::new("{}").with_key(b"\xff".as_slice());
    assert_eq!(routed(rules, message).unwrap_err().reason(), "map[0]: the key is not text");
}

#[test]
fn the_key_comes_from_the_mapped_document() {
    let key = |rules: &str, document: &str| {
        let message = Message::new(document).with_key("old");
        routed(rules, message).map(|outputs| String::from_utf8(outputs[0].key.clone().unwrap()))
    };
    assert_eq!(key(r#"{"key":"/id"}"#, r#"{"id":"o-17"}"#), Ok(Ok("o-17".to_owned())));
    assert_eq!(key(r#"{"key":"/id"}"#, r#"{"id":17.50}"#), Ok(Ok("17.50".to_owned())));
    let renamed = r#"{"map":[{"rename":"/a","to":"/id"}],"key":"/id"}"#;
    assert_eq!(key(renamed, r#"{"a":[1, 2]}"#), Ok(Ok("[1,2]".to_owned())));
    for document in ["{}", r#"{"id":null}"#] {
        let failure = key(r#"{"key":"/id"}"#, document).unwrap_err();
        assert_eq!(failure.reason(), "key: the document has nothing at `/id`");
    }
}

#[test]
fn messages_without_a_document_go_as_the_rules_say() {
    let (reject, pass, drop) = (
        r#"{"filter":[{"at":"/a","=":1}],"tombstone":"reject"}"#,
        r#"{"filter":[{"at":"/a","=":1}],"not_json":"pass","otherwise":{"to":"rest"}}"#,
        r#"{"not_json":"drop","tombstone":"drop"}"#,
    );
    let binary = Message::new(b"{\"a\":\xff}".as_slice()).with_key("k");
    let tombstone = Message::tombstone().with_key("k");

    let failure = routed(reject, binary.clone()).unwrap_err();
    assert_eq!(failure.reason(), "the value is not JSON: no UTF-8 from byte 5 on");
    let failure = routed(reject, Message::new("{\n\"a\":}")).unwrap_err();
    let reason = "the value is not JSON: expected value at line 2 column 5";
    assert_eq!(failure, Failure::reject(reason));
    assert!(routed(reject, tombstone.clone()).unwrap_err().reason().contains("tombstone"));

    let passed = |message: &Message| Ok(vec![Output::from(message.clone()).to("rest")]);
    assert_eq!(routed(pass, binary.clone()), passed(&binary));
    assert_eq!(routed(pass, tombstone.clone()), passed(&tombstone));
    assert_eq!(routed(drop, binary), Ok(vec![]));
    assert_eq!(routed(drop, tombstone), Ok(vec![]));
}

#[test]
fn numbers_keep_their_digits_and_objects_their_order() {
    let huge = "123456789012345678901234567890.10";
    let document = format!(r#"{{"z":{huge},"b":1e999,"a":-0.0,"drop":1,"c":1.0}}"#);
    let expected = format!(r#"{{"z":{huge},"b":1e+999,"a":-0.0,"c":1.0}}"#);
    assert_eq!(mapped(r#"[{"remove":"/drop"}]"#, &document), expected);

    let id = r#"{"at":"/id","=":9007199254740993}"#;
    assert!(holds(id, r#"{"id":9007199254740993}"#));
    assert!(!holds(id, r#"{"id":9007199254740992}"#));
}

#[test]
fn a_document_too_deep_to_read_is_rejected() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let failure = routed("{}", Message::new(deep)).unwrap_err();
    assert!(failure.reason().contains("recursion limit exceeded"), "{failure}");
    let deep = format!("{}1{}", r#"{"a":"#.repeat(120), "}".repeat(120));
    assert_eq!(mapped(r#"[{"remove":"/b"}]"#, &deep), deep);
}

#[test]
fn an_object_that_poses_as_a_number_is_rejected_not_changed() {
    let document = r#"{"a":{"$serde_json::private::Number":"5"}}"#;
    let failure = routed(r#"{"map":[{"remove":"/b"}]}"#, Message::new(document)).unwrap_err();
    assert!(failure.reason().contains("can't be kept"), "{failure}");
}

#[test]
fn every_mistake_in_the_rules_is_named_with_its_place() {
    let many = format!(r#"{{"map":[{}{{"remove":"/a"}}]}}"#, r#"{"remove":"/a"},"#.repeat(256));
    let large = " ".repeat(65_537);
    for (rules, expected) in [
        ("{\n  'a'", "this is not JSON: key must be a string at line 2 column 3"),
        ("[]", "this must be an object"),
        (r#"{"filters":[]}"#, "unknown key `filters`; known are `not_json`, `tombstone`, `filter`"),
        (r#"{"filter":{}}"#, "filter: this must be a list"),
        (r#"{"filter":[1]}"#, "filter[0]: this must be an object"),
        (r#"{"filter":[{"=":1}]}"#, "filter[0]: exactly one of `at` (a pointer), `header`"),
        (r#"{"filter":[{"at":"/a","key":true,"=":1}]}"#, "filter[0]: exactly one of `at`"),
        (r#"{"filter":[{"at":"/a"}]}"#, "filter[0]: exactly one of `exists`, `=`, `!=`"),
        (r#"{"filter":[{"at":"/a","<":1,">":2}]}"#, "filter[0]: exactly one of `exists`"),
        (r#"{"filter":[{"at":"a","=":1}]}"#, "filter[0].at: `a` is no JSON pointer: write `/a`"),
        (r#"{"filter":[{"at":"/a","<":[]}]}"#, "filter[0].<: only numbers and texts have an order"),
        (r#"{"filter":[{"at":"/a","in":1}]}"#, "filter[0].in: this must be a list"),
        (r#"{"filter":[{"any":[{"at":1,"=":1}]}]}"#, "filter[0].any[0].at: this must be a text"),
        (r#"{"filter":[{"any":[],"at":"/a"}]}"#, "filter[0]: unknown key `at`; known are `any`"),
        (r#"{"map":[{"sett":"/a"}]}"#, "map[0]: a step has one of `set`, `remove`, `rename`"),
        (r#"{"map":[{"set":"/a"}]}"#, "map[0]: `set` needs either `value` or `from`"),
        (
            r#"{"map":[{"set":"/a","from":"x"}]}"#,
            "map[0].from: `x` is none of `header:NAME`, `key`",
        ),
        (r#"{"map":[{"set":"","value":1}]}"#, "map[0].set: this must name a place in the document"),
        (r#"{"map":[{"rename":"/a"}]}"#, "map[0]: `to` is missing"),
        (r#"{"map":[{"copy":"/a","to":"/a/b"}]}"#, "map[0]: `/a/b` lies in `/a`: a value can't"),
        (r#"{"map":[{"remove":"/a","to":"/b"}]}"#, "map[0]: unknown key `to`; known are `remove`"),
        (r#"{"route":[{"to":"x"}]}"#, "route[0]: `when` is missing"),
        (r#"{"route":[{"when":[]}]}"#, "route[0]: exactly one of `to`"),
        (r#"{"route":[{"when":[],"to":[]}]}"#, "route[0].to: no output is named"),
        (
            r#"{"route":[{"when":[],"to":["a",""]}]}"#,
            "route[0].to[1]: an output's name is not empty",
        ),
        (r#"{"otherwise":{"drop":false}}"#, "otherwise: exactly one of `to`"),
        (r#"{"not_json":"ignore"}"#, "not_json: `ignore` is none of `reject`, `pass` and `drop`"),
        (r#"{"key":7}"#, "key: this must be a text"),
        (&many, "map[256]: more than 256 conditions, steps and routes"),
        (&large, "65537 bytes of rules, at most 65536 are taken"),
    ] {
        let error = Rules::read(rules).err().unwrap_or_else(|| panic!("taken: {rules}"));
        assert!(error.starts_with(expected), "{rules}\n  says {error}");
    }
}

#[test]
fn the_rules_of_the_readme_do_what_it_says() {
    let readme = include_str!("../../README.md");
    let (_, rules) = readme.split_once("rules = '''").unwrap();
    let (rules, _) = rules.split_once("'''").unwrap();
    let order = r#"{"order_id":"o-1","status":"paid","qty":2,"total":1000,"card":"4111"}"#;
    let outputs = routed(rules, Message::new(order).with_header("gateway", "web")).unwrap();
    let expected =
        r#"{"order_id":"o-1","status":"paid","total":1000,"quantity":2,"received_by":"web"}"#;
    let output = Output::new(expected).key("o-1").header("gateway", "web");
    assert_eq!(outputs, [output.clone().to("large"), output]);
    assert!(goes_to(rules, r#"{"status":"open"}"#).is_empty());
}

#[test]
fn the_rules_of_the_examples_are_taken() {
    // Where it runs, not where it was built: checkouts share their target folder.
    let router = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let examples = router.join("../../examples");
    let mut rules_taken = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let folder = entry.unwrap().path();
        let pipelines = std::fs::read_to_string(folder.join("millstream.toml")).unwrap_or_default();
        let mut texts: Vec<String> = Vec::new();
        for setting in pipelines.split("\nrules = ").skip(1) {
            let quotes = if setting.starts_with("'''") { "'''" } else { "'" };
            match setting.strip_prefix(quotes) {
                Some(rest) => texts.push(rest.split(quotes).next().unwrap().to_owned()),
                None => texts.extend(
                    ["rules.json", "rules-fixed.json"]
                        .map(|name| std::fs::read_to_string(folder.join(name)).unwrap()),
                ),
            }
        }
        for rules in &texts {
            if let Err(error) = Rules::read(rules) {
                panic!("{}: {error}", folder.display());
            }
        }
        rules_taken += texts.len();
    }
    assert_eq!(rules_taken, 7);
}
