//! Brokers that let nobody in without a certificate, a password or a token, and do nothing for a user who
//! has not the right: what `docs/kafka.md` lists as the least rights is all this user has.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::idempotency::mark_record;
use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::kafka::{Cluster, unique};
use millstream_tests::kafka_topic::Writer;
use millstream_tests::waiting;

const PASSWORD: &str = "millstream-secret";
/// How long everything may take to be settled, a run of it at a time.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

const USER: &str = "User:millstream";

/// A pipeline that retries, dead-letters and outputs, on a secured cluster.
struct Secured {
    cluster: Cluster,
    source: String,
    output: String,
    folder: Folder,
}

impl Secured {
    fn new(options: &[&str], client: &str, delivery: &str) -> Self {
        let mut all = vec!["--quick"];
        all.extend(options);
        let cluster = Cluster::start(&all);
        let (source, output) = (unique("orders"), unique("priced"));
        let folder = Folder::new("");
        folder.plugin("plugin.wasm", &guest("hostile"));
        folder.write("password", PASSWORD);
        folder.write("wrong", "not-this-one");
        folder.write("token", &token());
        for topic in [&source, &output] {
            cluster.tool(&["topics", "--create", "--topic", topic, "--partitions", "2"]);
        }
        let secured = Self { cluster, source, output, folder };
        secured.configure(client, delivery);
        secured
    }

    /// Writes the configuration. `client` is the end of `[log]`, in which `CA`, `CERT` and `KEY` are the
    /// cluster's files.
    fn configure(&self, client: &str, delivery: &str) {
        let mut client = client.to_owned();
        for (word, file) in [("CA", "ca"), ("CERT", "client_cert"), ("KEY", "client_key")] {
            if client.contains(word) {
                client = client.replace(word, &self.cluster.tls_file(file).display().to_string());
            }
        }
        let (bootstrap, source, output) = (self.cluster.bootstrap(), &self.source, &self.output);
        let config = format!(
            r#"
[host]
admin = "127.0.0.1:0"

[log]
kind = "kafka"
bootstrap_servers = "{bootstrap}"
{client}

[pipelines.{source}]
source = {{ topics = ["{source}"] }}
plugin = "plugin.wasm"
outputs = {{ default = "{output}" }}
delivery = "{delivery}"
retry = {{ delays = ["100ms"] }}
idempotency = {{ key = "key" }}
"#
        );
        self.folder.write("millstream.toml", &config);
    }

    /// A command that must fail, and what it says.
    fn refused(&self, command: &[&str]) -> String {
        let ended = self.folder.run(command, "");
        assert_ne!(ended.code, Some(0), "{command:?}: {ended:?}");
        format!("{}{}", ended.stdout, ended.stderr)
    }

    fn write(&self) {
        let writer = Writer::new(self.cluster.admin_bootstrap());
        for number in 0..20 {
            writer.write(&self.source, &format!("k{number}"), "echo");
        }
        writer.write(&self.source, "flaky", "retry not now");
        writer.write(&self.source, "poison", "reject bad");
        writer.flush();
    }

    /// Runs it over messages of every fate, and reads what came of them, as the same user.
    fn works(&self) {
        self.write();
        // A run ends also when all that is left is a retry which is not due yet.
        waiting::until("everything is settled", SETTLED_WITHIN, || {
            self.folder.ok(&["run", "--until-caught-up"], "");
            (self.folder.unsettled() == 0).then_some(())
        });
        assert_eq!(self.folder.consume(&self.output).len(), 20);
    }

    /// Allows the user something.
    fn allow(&self, operations: &[&str], on: &[&str]) {
        let mut args = vec!["acls", "--add", "--allow-principal", USER];
        for operation in operations {
            args.extend(["--operation", operation]);
        }
        args.extend(on);
        self.cluster.tool(&args);
    }
}

/// A token without a signature, which the tests' broker believes.
fn token() -> String {
    let now = SystemClock.now() / 1000;
    let claims = format!(r#"{{"sub":"millstream","iat":{now},"exp":{}}}"#, now + 3600);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

#[test]
fn tls() {
    let client = r#"client = { "security.protocol" = "ssl", "ssl.ca.location" = "CA" }"#;
    Secured::new(&["--tls"], client, "at_least_once").works();
}

#[test]
fn mutual_tls_and_no_certificate() {
    let nobody = r#"client = { "security.protocol" = "ssl", "ssl.ca.location" = "CA" }"#;
    let client = r#"client = { "security.protocol" = "ssl", "ssl.ca.location" = "CA", "ssl.certificate.location" = "CERT", "ssl.key.location" = "KEY" }"#;
    let secured = Secured::new(&["--mutual-tls"], client, "at_least_once");
    secured.works();
    secured.configure(nobody, "at_least_once");
    secured.refused(&["lag"]);
}

#[test]
fn plain_over_tls_and_a_wrong_password() {
    let client = r#"client = { "security.protocol" = "sasl_ssl", "sasl.mechanism" = "PLAIN", "sasl.username" = "millstream", "sasl.password" = "${file:password}", "ssl.ca.location" = "CA" }"#;
    let secured = Secured::new(&["--tls", "--sasl", "plain"], client, "at_least_once");
    secured.works();
    secured.configure(&client.replace("file:password", "file:wrong"), "at_least_once");
    for command in [&["run"][..], &["lag", "--json"]] {
        let said = secured.refused(command);
        assert!(!said.contains("not-this-one"), "{command:?} tells the password: {said}");
        assert!(said.contains("correct the user, password"), "{command:?}: {said}");
    }
}

#[test]
fn oauth_with_a_token_file() {
    let client = r#"oauth_token_file = "token"
client = { "security.protocol" = "sasl_plaintext", "sasl.mechanism" = "OAUTHBEARER" }"#;
    Secured::new(&["--sasl", "oauth"], client, "exactly_once").works();
}

#[test]
fn scram_with_the_least_rights_and_one_right_too_few() {
    let client = r#"client = { "security.protocol" = "sasl_ssl", "sasl.mechanism" = "SCRAM-SHA-512", "sasl.username" = "millstream", "sasl.password" = "${file:password}", "ssl.ca.location" = "CA" }"#;
    let options = ["--tls", "--sasl", "scram", "--acl"];
    let secured = Secured::new(&options, client, "exactly_once");
    let (source, output) = (secured.source.as_str(), secured.output.as_str());
    let (letters, tiers) = (format!("{source}.dlq"), format!("{source}.retry."));
    secured.allow(&["Read", "Describe", "DescribeConfigs"], &["--topic", source]);
    secured.allow(&["Read"], &["--group", source]);
    let of_tiers = ["--topic", &tiers, "--resource-pattern-type", "prefixed"];
    let rights = ["Read", "Write", "Create", "Describe", "DescribeConfigs", "Delete"];
    secured.allow(&rights, &of_tiers);
    let rights = ["Write", "Create", "Describe", "DescribeConfigs"];
    secured.allow(&rights, &["--topic", &letters]);
    let states = format!("{letters}.states");
    let rights = ["Read", "Create", "Describe", "DescribeConfigs"];
    secured.allow(&rights, &["--topic", &states]);
    let marks = mark_record::topic(source, source);
    let rights = ["Read", "Write", "Create", "Describe", "DescribeConfigs"];
    secured.allow(&rights, &["--topic", &marks]);
    secured.allow(&["Describe", "DescribeConfigs"], &["--topic", output]);
    let id = format!("{source}-millstream-");
    let of_id = ["--transactional-id", &id, "--resource-pattern-type", "prefixed"];
    secured.allow(&["Write", "Describe"], &of_id);

    // It may not write its output: it stops, says what is missing, and has given up nothing.
    secured.write();
    let said = secured.refused(&["run", "--until-caught-up"]);
    assert!(said.contains("allow this user the topic") && said.contains(output), "{said}");

    secured.allow(&["Write"], &["--topic", output]);
    secured.folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(secured.folder.unsettled(), 0);
    // Whoever looks at outputs and letters needs one right more.
    secured.allow(&["Read"], &["--topic", output, "--topic", &letters]);
    assert_eq!(secured.folder.consume(output).len(), 20);
    assert_eq!(secured.folder.consume(&letters).len(), 2);
}
