//! millstream-log-embedded
