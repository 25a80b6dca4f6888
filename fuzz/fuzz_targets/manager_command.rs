//! Whatever a buffer is to be called, the module reads one command of one line, or
//! is asked nothing.
#![no_main]

use std::{
    io::ErrorKind,
    os::{fd::AsFd, unix::net::UnixDatagram},
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use udmabuf_sys::manager::{Options, Quirk, create, delete};

/// A write at one end is a message at the other.
static ENDS: LazyLock<(UnixDatagram, UnixDatagram)> = LazyLock::new(|| {
    let ends = UnixDatagram::pair().expect("a pair of sockets");
    ends.1.set_nonblocking(true).expect("a socket that does not wait");
    ends
});

fn sent() -> Option<Vec<u8>> {
    let mut message = [0; 2048];
    match ENDS.1.recv(&mut message) {
        Ok(len) => Some(message[..len].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// The words of what was sent, which is one command.
fn words(message: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(message).expect("text");
    let line = text.strip_suffix('\n').expect("a whole line");
    assert!(message.len() <= 1024 && !line.contains(['\n', '\0', ';']), "{line:?}");
    line.split(' ').collect()
}

type Input<'a> = (&'a str, u64, Option<(&'a str, &'a str)>, Option<u32>, u8);

fuzz_target!(|input: Input<'_>| {
    let (name, size, parent, dma_mask, quirk) = input;
    let mapping = match quirk {
        0 => Some(Quirk::On),
        1 => Some(Quirk::Off),
        2 => Some(Quirk::Auto),
        3 => Some(Quirk::Page),
        _ => None,
    };
    let options = Options { parent, dma_mask, mapping };
    let result = create(ENDS.0.as_fd(), name, size, options);
    let message = sent();
    assert_eq!(result.is_ok(), message.is_some(), "{result:?}");
    if let Some(message) = message {
        let mut expected = vec!["create".to_owned(), name.to_owned(), size.to_string()];
        if let Some((bus, device)) = parent {
            expected.extend([format!("bus={bus}"), format!("device={device}")]);
        }
        expected.extend(dma_mask.map(|bits| format!("dma-mask={bits}")));
        expected.extend(mapping.map(|quirk| quirk.to_string()));
        assert_eq!(words(&message), expected);
    }

    let result = delete(ENDS.0.as_fd(), name);
    let message = sent();
    assert_eq!(result.is_ok(), message.is_some(), "{result:?}");
    if let Some(message) = message {
        assert_eq!(words(&message), ["delete", name]);
    }
});
