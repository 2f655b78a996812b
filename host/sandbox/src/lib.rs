//! millstream-sandbox
