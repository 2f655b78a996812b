use super::*;

fn tier() -> Template {
    Template::new("{topic}.retry.{delay}", true).expect("a good template")
}

#[test]
fn a_tier_is_found_again_by_its_name() {
    for millis in [0, 1, 250, 1_000, 5_000, 90_000, 300_000, 7_200_000] {
        let delay = Duration::from_millis(millis);
        let name = tier().topic("orders", "g", Some(delay));
        assert_eq!(tier().delay_of(&name, "orders", "g"), Some(delay), "{name}");
    }
}

#[test]
fn other_topics_are_no_tiers() {
    for name in ["orders", "orders.retry.", "orders.retry.60s", "orders.retry.x", "x.retry.5s"] {
        assert_eq!(tier().delay_of(name, "orders", "g"), None, "{name}");
    }
}

#[test]
fn tiers_of_another_group_are_not_ours() {
    let template = Template::new("{topic}.{group}.retry.{delay}", true).expect("good");
    let name = template.topic("orders", "billing", Some(Duration::from_secs(5)));
    assert_eq!(&*name, "orders.billing.retry.5s");
    assert_eq!(template.delay_of(&name, "orders", "shipping"), None);
}

#[test]
fn bad_templates_are_refused() {
    for (text, is_tier) in [
        ("retry.{delay}", true),
        ("{topic}.retry", true),
        ("{topic}.{delay}.retry", true),
        ("{topic}.{x}.{delay}", true),
        ("{topic}", false),
        ("{topic}.{delay}.dlq", false),
    ] {
        assert!(Template::new(text, is_tier).is_err(), "{text} was taken");
    }
}
