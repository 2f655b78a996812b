//! Checks of the SDK from the outside; see `tests/`. Nothing here is part of a plugin.
