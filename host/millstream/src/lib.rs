//! The `millstream` command: configuration, command line, and how both reach the log.
//!
//! `cli` parses and dispatches to `commands`; those read `config`, reach the log through `access`
//! and answer with an [`exit::Exit`] or findings. The stations themselves are in `millstream-core`.

pub mod access;
pub mod cases;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod deploying;
pub mod exit;
pub mod finding;
pub mod host;
pub mod kafka;
pub mod logging;
pub mod orphans;
pub mod plugin_file;
pub mod table;
pub mod terminal;
pub mod topic_check;
pub mod topic_plan;
pub mod traces;
mod who;
