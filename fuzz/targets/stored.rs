//! What the embedded log has on disk, its checksum right: read, or refused as damage. The input is a key as a part,
//! then the value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_log_embedded::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    let mut value = bytes;
    let key = millstream_fuzz::part(&mut value).unwrap_or_default();
    fuzzing::entry(key, value);
    fuzzing::batch(key, value);
});
