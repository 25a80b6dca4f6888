//! The parser of the module's text attributes takes what the module prints,
//! and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udmabuf_sys::sysfs::number;

fuzz_target!(|text: &[u8]| {
    if let Some(value) = number(text) {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        assert!(line.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'x'));
        assert_eq!(number(format!("{value}\n").as_bytes()), Some(value));
        assert_eq!(number(format!("{value:#018x}\n").as_bytes()), Some(value));
    }
});
