//! Peers: the Java contenders of `bench/peers`, built by Maven into the cache, once for each version of
//! their sources.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// What the project consists of.
const FILES: [&str; 4] = ["pom.xml", "Copy.java", "StreamsCopy.java", "SpringCopy.java"];

/// Enough for each, with room for what its producer holds.
const HEAP: &str = "-Xmx1g";

/// The Java contenders, built.
pub(crate) struct Peers {
    dir: PathBuf,
}

impl Peers {
    /// Builds them if that was not done before.
    ///
    /// # Errors
    /// When Maven cannot be run or does not build them.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let cache = cache()?;
        let dir = cache.join(format!("peers-{:016x}", digest(&project)?));
        if dir.is_dir() {
            return Ok(Self { dir });
        }
        std::fs::create_dir_all(&cache)?;
        // As a whole or not at all.
        let partial = tempfile::Builder::new().prefix("peers-partial-").tempdir_in(&cache)?;
        let property = |name: &str, path: PathBuf| format!("-D{name}={}", path.display());
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(project.join("pom.xml"));
        maven.arg(property("peers.target", partial.path().join("target")));
        maven.arg(property("outputDirectory", partial.path().join("lib")));
        maven.args(["-DincludeScope=runtime", "compile", "dependency:copy-dependencies"]);
        // What it says goes to stderr: stdout is the report's.
        maven.stdout(std::io::stderr());
        let wanted = "the Java contenders need Java 17 and Maven (Debian: apt-get install \
                      default-jdk-headless maven); or leave them out: --run loop --run Millstream";
        let status = maven.status().with_context(|| format!("mvn cannot be run: {wanted}"))?;
        if !status.success() {
            bail!("bench/peers was not built ({status}): {wanted}");
        }
        std::fs::rename(partial.keep(), &dir)?;
        Ok(Self { dir })
    }

    /// A class of theirs, to be given its arguments.
    pub(crate) fn command(&self, class: &str) -> Command {
        let classes = self.dir.join("target/classes");
        let class_path = format!("{}:{}/lib/*", classes.display(), self.dir.display());
        let mut command = Command::new("java");
        command.args([HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &class_path]);
        command.arg(format!("millstream.peers.{class}"));
        command
    }
}

/// Where Millstream keeps what can be made again.
fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("millstream"))
}

/// Tells versions of the sources from each other.
fn digest(project: &Path) -> anyhow::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in FILES {
        let folder = if file.ends_with(".java") { "src/main/java/millstream/peers" } else { "." };
        let path = project.join(folder).join(file);
        std::fs::read(&path).with_context(|| path.display().to_string())?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
