//! Devices as any sysfs could describe them: whatever stands in the files of UIO
//! devices, PCI functions and device-tree nodes is taken for what it says, or left
//! out. What it says is read here from the input, by other code.
#![no_main]
#![allow(dead_code, reason = "of the modules, only what reads files is used here")]

#[path = "../../udmabuf-uio/src/pci/bus.rs"]
mod bus;
#[path = "../../udmabuf-uio/src/devices.rs"]
mod devices;
#[path = "../../udmabuf-uio/src/error.rs"]
mod error;
#[path = "../../udmabuf-uio/src/sysfs.rs"]
mod sysfs;

use std::{collections::HashMap, fs, sync::LazyLock};

use error::Error;
use libfuzzer_sys::fuzz_target;
use sysfs::Roots;

const UIO: &str = "class/uio/uio0";
const PCI: &str = "bus/pci/devices/0000:00:02.0";
const TREE: &str = "firmware/devicetree/base/axi/dma@a0000000";
const FILES: [&str; 15] = [
    "class/uio/uio0/name",
    "class/uio/uio0/maps/map0/name",
    "class/uio/uio0/maps/map0/addr",
    "class/uio/uio0/maps/map0/offset",
    "class/uio/uio0/maps/map0/size",
    "class/uio/uio0/maps/map18446744073709551615/addr",
    "class/uio/uio0/maps/map18446744073709551615/offset",
    "class/uio/uio0/maps/map18446744073709551615/size",
    "class/uio/uio0/maps/map-1/addr",
    "class/uio/uio0/portio/port0/start",
    "class/uio/uio0/portio/port0/size",
    "firmware/devicetree/base/axi/dma@a0000000/compatible",
    "bus/pci/devices/0000:00:02.0/vendor",
    "bus/pci/devices/0000:00:02.0/device",
    "bus/pci/devices/0000:00:02.0/resource",
];

/// The directory, made once where temporary files are.
static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    let sys = std::env::temp_dir().join(format!("udmabuf-fuzz-{}", std::process::id()));
    for file in FILES {
        let directory = sys.join(file);
        fs::create_dir_all(directory.parent().expect("it has one")).expect("a directory");
    }
    fs::create_dir_all(sys.join(UIO).join("device")).expect("a directory");
    std::os::unix::fs::symlink(sys.join(TREE), sys.join(UIO).join("device/of_node"))
        .expect("a link");
    Roots { sys, dev: "/dev".into() }
});

/// Digits, of 16 kinds after `0x`, and nothing else.
fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let add = |sum: u64, digit: char| {
        sum.checked_mul(base.into())?.checked_add(digit.to_digit(base)?.into())
    };
    if digits.is_empty() { None } else { digits.chars().try_fold(0, add) }
}

fuzz_target!(|input: &[u8]| {
    let path = |file: &str| ROOTS.sys.join(file);
    let mut written = HashMap::new();
    for file in FILES {
        let _ = fs::remove_file(path(file));
    }
    // A file is a letter and its text, up to a byte that no text has.
    for file in input.split(|&byte| byte == 0xff) {
        let Some((&letter, text)) = file.split_first() else { continue };
        let name = FILES[usize::from(letter.wrapping_sub(b'a')) % FILES.len()];
        fs::write(path(name), text).expect("a file");
        written.insert(name, text);
    }
    let text = |file: String| {
        let text = std::str::from_utf8(written.get(&*file)?).ok()?;
        Some(text.trim_end())
    };
    let number = |file: String| text(file).and_then(number);

    let found = devices::list(&ROOTS).expect("a list");
    assert_eq!(found.len(), usize::from(text(format!("{UIO}/name")).is_some()));
    for device in &found {
        assert!(device.to_string().contains(&device.name));
        for map in &device.maps {
            let said = |file| number(format!("{UIO}/maps/map{}/{file}", map.number));
            assert_eq!(said("addr"), Some(map.address));
            assert_eq!(said("offset"), Some(map.offset));
            assert_eq!(said("size"), Some(map.size));
            assert!(map.len() <= map.size);
        }
        // Each string is one, and none has the others in it.
        assert!(device.compatible.iter().all(|it| !it.contains('\0')));
        assert_eq!(device.tree_path.as_deref(), Some("/axi/dma@a0000000"));
        for it in &device.compatible {
            assert!(devices::By::Compatible(it).finds(device));
        }
    }

    let found = bus::list(&ROOTS).expect("a list");
    for function in &found {
        assert_eq!(number(format!("{PCI}/vendor")), Some(function.vendor.into()));
        assert_eq!(number(format!("{PCI}/device")), Some(function.device.into()));
        assert!(function.to_string().contains(&function.address));
        assert!(function.bars.len() <= 6);
        for bar in &function.bars {
            assert!(bar.number < 6 && bar.start.checked_add(bar.size - 1).is_some(), "{bar}");
        }
    }
});
