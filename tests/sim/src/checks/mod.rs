//! The promises, each checked against the book as it changes.

mod attempts;
mod commits;
mod companions;
mod end;
mod in_flight;
mod kills;
mod losses;
mod marks;
mod memory;
mod order;
mod outputs;
mod waits;
mod written;

pub(crate) use memory::Holds;
