//! What an operator sees and does, with the real program.

mod hot_keys;
mod instances;
