//! The numbers, ranges and addresses of requests: mostly what could be right.

use super::{
    arena::{PAGE, Place},
    random::Random,
};

/// Numbers where arithmetic goes wrong.
pub(crate) fn number(random: &mut Random, memory: u64) -> u64 {
    let near = random.below(9).wrapping_sub(4);
    match random.below(12) {
        0 => u64::MAX.wrapping_sub(random.below(8)),
        1 => 0u64.wrapping_sub(PAGE as u64 * random.below(4)),
        2 => (1u64 << 32).wrapping_add(near),
        3 => random.next(),
        4 => memory.wrapping_add(near),
        5 => 1 << random.below(64),
        6 => memory,
        _ => random.below(memory + 1),
    }
}

pub(crate) fn page_range(random: &mut Random, memory: u64) -> [u64; 2] {
    if random.one_in(6) {
        return [number(random, memory), number(random, memory)];
    }
    let pages = memory / PAGE as u64;
    let first = random.below(pages);
    let count = 1 + random.below(pages - first);
    [first * PAGE as u64, count * PAGE as u64]
}

pub(crate) fn range(random: &mut Random, memory: u64) -> [u64; 2] {
    if random.one_in(8) {
        return [number(random, memory), number(random, memory)];
    }
    let offset = if random.one_in(4) { 0 } else { random.below(memory + 1) };
    let rest = memory - offset;
    [offset, if random.one_in(4) { rest } else { random.below(rest + 1) }]
}

pub(crate) fn place(random: &mut Random, len: u16) -> Place {
    match random.below(32) {
        0 => Place::Cut(u16::try_from(random.below(u64::from(len))).unwrap_or(0)),
        1 => Place::Cut(len),
        2 => Place::ReadOnly,
        3 => Place::Null,
        4 => Place::Kernel,
        5 => Place::Top,
        6 => Place::Nowhere,
        7 | 8 => Place::Good(random.byte()),
        _ => Place::Good(0),
    }
}

pub(crate) fn number_text(random: &mut Random, memory: u64, small: u64) -> String {
    let value = if random.one_in(3) { number(random, memory) } else { random.below(small + 1) };
    match random.below(10) {
        0 => format!("{value:#x}"),
        1 => format!("0{value:o}\n"),
        2 => format!("+{value}\n"),
        3 => format!("-{value}"),
        4 => format!("{value} "),
        5 => format!("{value}\n\n"),
        6 => format!("{value}{value}{value}\n"),
        7 => ["", "\n", "0x", "ten", "1\0", "\u{7f}", "0x+1", "08"][random.index(8)].to_owned(),
        _ => format!("{value}\n"),
    }
}
