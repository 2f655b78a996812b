//! millstream-log-simulated
