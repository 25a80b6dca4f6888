//! `abi` against the kernel's header, by machine: a C compiler says what is in the
//! header, and nothing may be missing on either side.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    mem::offset_of,
    path::Path,
    process::Command,
};

use udmabuf_sys::abi::{self, Direction};

/// Beside each name: its value, or its offset and size in bytes.
type Facts = BTreeMap<String, Vec<u64>>;

/// What has no use on this side: a version that is only shown, and a mask over
/// two commands that are told apart by their names.
const ONLY_IN_C: [&str; 2] = ["IOCTL_VERSION", "SYNC_COMMAND"];

/// Fields that are named otherwise here.
const FIELDS: [(&str, &str); 2] =
    [("dev_info.dma_addr", "dev_info.addr"), ("export_args.dma_addr", "export_args.addr")];

fn in_rust() -> Facts {
    let mut facts = Facts::new();
    macro_rules! constants {
        ($prefix:literal: $($name:ident)*) => {
            $(facts.insert(format!("{}{}", $prefix, stringify!($name)), vec![u64::from(abi::$name)]);)*
        };
    }
    constants!("IOCTL_": TYPE GET_DRV_INFO GET_SIZE GET_DMA_ADDR GET_SYNC_OWNER SET_SYNC_FOR_CPU
        SET_SYNC_FOR_DEVICE GET_DEV_INFO GET_SYNC SET_SYNC EXPORT CLAIM GET_CAPS SYNC_BATCH
        CLAIM_RANGE SET_MAP_MODE GET_PARENT);
    constants!("": CLAIM_ADOPT DRV_IOCTL_VERSION DRV_IN_KERNEL DRV_OF_DMA_CONFIG
        DRV_OF_RESERVED_MEM DRV_QUIRK_MMAP DRV_QUIRK_MMAP_PAGE SYNC_FOR_CPU SYNC_FOR_DEVICE
        SYNC_DIRECTION_SHIFT SYNC_MODE_SHIFT SYNC_OWNER OWNER_CPU OWNER_DEVICE SYNC_BATCH_MAX
        CLAIM_RANGES_MAX
        MAP_BY_FLAGS MAP_CACHED MAP_UNCACHED MAP_WRITE_COMBINED CAP_CLAIM CAP_CLAIM_RANGE
        CAP_SYNC_BATCH CAP_LENT CAP_MAP_MODE CAP_EXPORT CAP_USER_SYNC CAP_ADVICE);
    for (name, value) in [
        ("DEV_DMA_MASK", abi::DEV_INFO_DMA_MASK),
        ("DEV_COHERENT", abi::DEV_INFO_COHERENT),
        ("DEV_MMAP_MODE_SHIFT", abi::DEV_INFO_MMAP_MODE_SHIFT.into()),
        ("BIDIRECTIONAL", Direction::Bidirectional as u64),
        ("TO_DEVICE", Direction::ToDevice as u64),
        ("FROM_DEVICE", Direction::FromDevice as u64),
    ] {
        facts.insert(name.into(), vec![value]);
    }

    fn size_of_field<S, F>(_: fn(&S) -> &F) -> u64 {
        size_of::<F>() as u64
    }
    macro_rules! structure {
        ($c:literal $rust:ident: $($field:ident)*) => {
            facts.insert($c.into(), vec![size_of::<abi::$rust>() as u64]);
            $(
                let name = concat!($c, ".", stringify!($field));
                let name = FIELDS.iter().find(|(rust, _)| *rust == name).map_or(name, |(_, c)| c);
                let size = size_of_field(|s: &abi::$rust| &s.$field);
                facts.insert(name.into(), vec![offset_of!(abi::$rust, $field) as u64, size]);
            )*
        };
    }
    structure!("drv_info" DrvInfo: flags version);
    structure!("dev_info" DevInfo: flags size dma_addr);
    structure!("sync_args" SyncArgs: flags size offset);
    structure!("export_args" ExportArgs: flags size offset dma_addr fd);
    structure!("lent" Lent: parts gone);
    structure!("claim_range" ClaimRange: offset size flags);
    structure!("sync_range" SyncRange: offset size command direction);
    structure!("sync_batch" SyncBatch: ranges count flags);
    structure!("caps" Caps: flags cache_alignment);
    structure!("parent" Parent: name);
    facts
}

/// Every `#define` with a value and every field of every structure, as the
/// compiler has them.
fn in_c(header: &Path) -> Facts {
    let mut program = format!("#include <stdio.h>\n#include <stddef.h>\n#include {header:?}\n");
    program += "int main(void)\n{\n";
    let mut structure = "";
    for line in fs::read_to_string(header).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#define", name, _, ..] => {
                let short = name.strip_prefix("U_DMA_BUF_").unwrap();
                writeln!(program, "printf(\"{short} %llu\\n\", (unsigned long long){name});")
            }
            ["struct", name, "{"] => {
                structure = name.strip_prefix("u_dma_buf_").unwrap();
                writeln!(program, "printf(\"{structure} %zu\\n\", sizeof(struct {name}));")
            }
            [.., field] if line.starts_with('\t') && !structure.is_empty() => {
                let field = field.split([';', '[']).next().unwrap();
                let of = format!("struct u_dma_buf_{structure}");
                writeln!(
                    program,
                    "printf(\"{structure}.{field} %zu %zu\\n\", offsetof({of}, {field}), sizeof((({of} *)0)->{field}));"
                )
            }
            _ => {
                structure = "";
                Ok(())
            }
        }
        .unwrap();
    }
    program += "}\n";

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (directory.join("header.c"), directory.join("header"));
    fs::write(&source, program).unwrap();
    let mut cc = Command::new("cc");
    assert!(
        cc.arg("-Wall")
            .arg("-Werror")
            .arg("-o")
            .args([&binary, &source])
            .status()
            .unwrap()
            .success()
    );
    let output = Command::new(binary).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(fact).collect()
}

fn fact(line: &str) -> (String, Vec<u64>) {
    let mut words = line.split(' ');
    let name = words.next().unwrap().to_owned();
    (name, words.map(|number| number.parse().unwrap()).collect())
}

#[test]
fn every_name_of_the_header_has_the_same_value_here() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmod/include/uapi/u-dma-buf.h");
    let mut expected = in_c(&header);
    for name in ONLY_IN_C {
        assert!(expected.remove(name).is_some(), "{name} is not in the header");
    }
    assert!(expected.len() > 50, "the header was not read: {expected:?}");

    let actual = in_rust();
    for name in expected.keys().chain(actual.keys()).collect::<BTreeSet<_>>() {
        assert_eq!(actual.get(name), expected.get(name), "{name}: here, and in the header");
    }
}

/// The list of the test above is whole.
#[test]
fn every_public_name_is_compared() {
    let abi = include_str!("../src/abi.rs");
    let listed = include_str!("header.rs");
    let compared: BTreeSet<&str> =
        listed.split(|c: char| c != '_' && !c.is_alphanumeric()).collect();
    let mut structure = false;
    for line in abi.lines() {
        if let Some(rest) = line.strip_prefix("pub ") {
            structure = rest.starts_with("struct ");
        }
        let public = line.strip_prefix("pub const ").or(line.strip_prefix("pub struct "));
        let field = line.strip_prefix("    pub ").filter(|_| structure);
        let Some(declared) = public.or(field).filter(|rest| !rest.starts_with("const fn")) else {
            continue;
        };
        let name = declared.split([':', ' ']).next().unwrap();
        assert!(compared.contains(name), "abi::{name} is not compared with the header");
    }
}
