//! The commands, one module each, and what they share: the configuration and the log they work on.

pub mod audit;
pub mod check;
pub mod completions;
pub mod consume;
pub mod demo;
pub mod deploy;
pub mod dlq;
pub mod lag;
pub mod plugin;
pub mod produce;
pub mod rollback;
pub mod run;
pub mod scaler;
pub mod status;
pub mod topics;
pub mod versions;

use std::path::{Path, PathBuf};

use crate::config::{self, Config, Durability, LogKind, NewTopics, Secret};
use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::terminal::Terminal;

/// The file that is read if none is named.
pub const CONFIG_DEFAULT: &str = "millstream.toml";

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where words go.
    pub terminal: Terminal,
    /// `--config`, if given.
    pub config_file: Option<PathBuf>,
    /// `--data-dir`, if given: goes before what the file says.
    pub data_dir: Option<PathBuf>,
}

/// What a command needs that works on topics alone.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of the host's data, where the embedded log is.
    pub data_dir: PathBuf,
    /// Which log.
    pub log: LogKind,
    /// How topics are made.
    pub new_topics: NewTopics,
    /// The token of a running host, if it is configured.
    pub admin_token: Option<Secret>,
}

impl Context {
    /// The configuration's file.
    pub fn config_path(&self) -> &Path {
        self.config_file.as_deref().unwrap_or(Path::new(CONFIG_DEFAULT))
    }

    /// The checked configuration, `--data-dir` applied.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = config::load(self.config_path())?;
        if let Some(data_dir) = &self.data_dir {
            config.host.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }

    /// Where the log is: from `--data-dir` alone if there is no configuration.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or neither is given.
    pub fn place(&self) -> Result<Place, Failure> {
        let no_file = self.config_file.is_none() && !self.config_path().exists();
        match &self.data_dir {
            Some(data_dir) if no_file => Ok(Place {
                data_dir: data_dir.clone(),
                log: LogKind::Embedded { durability: Durability::Always },
                new_topics: NewTopics::default(),
                admin_token: None,
            }),
            None if no_file => {
                let what = "there is no log to work on";
                let why = format!("this folder has no {CONFIG_DEFAULT}");
                let fix = "name a configuration with `--config FILE`, or the log's folder with \
                           `--data-dir DIR`";
                Err(Finding::new(Code::Usage, what, fix).because(why).into())
            }
            _ => {
                let config = self.config()?;
                Ok(Place {
                    data_dir: config.host.data_dir,
                    log: config.log.kind,
                    new_topics: config.log.new_topics,
                    admin_token: config.host.admin_token,
                })
            }
        }
    }
}
