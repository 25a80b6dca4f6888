//! How random operations are made: mostly of what could be right, with wrong parts.

use rustix::fs::OFlags;

use super::{
    arena::{PAGE, USABLE},
    manager::Manager,
    model::{Id, Model},
    numbers::{number, number_text, page_range, place, range},
    op::{Move, Op},
    peer::VMAP,
    random::Random,
    raw::{self, MAP_FIXED},
};

/// Of huge pages there are some in it.
const LARGE: u64 = 4 << 20;

fn some<K: Copy + Ord, V>(
    random: &mut Random,
    map: &std::collections::BTreeMap<K, V>,
) -> Option<K> {
    map.keys().nth(random.index(map.len())).copied()
}

impl Op {
    pub(crate) fn random(random: &mut Random, model: &Model, manager: &Manager) -> Self {
        loop {
            if let Some(op) = Self::attempt(random, model, manager) {
                return op;
            }
        }
    }

    /// None where it needs what is not there.
    fn attempt(random: &mut Random, model: &Model, manager: &Manager) -> Option<Self> {
        let kind = random.index(model.kinds.len());
        let open: Vec<Id> =
            model.files.iter().filter(|(_, f)| f.fd.is_some()).map(|(&id, _)| id).collect();
        let file = open.get(random.index(open.len())).copied();
        let memory = file.map_or(PAGE as u64, |file| model.kind_of(file).memory());
        let exports: Vec<Id> =
            model.exports.iter().filter(|(_, e)| e.fd.is_some()).map(|(&id, _)| id).collect();
        let export = exports.get(random.index(exports.len())).copied();
        let piece = some(random, &model.pieces);
        // All of a piece, or a part.
        let pages = piece.map_or([0, 0], |piece| {
            let pages = model.pieces[&piece].len / PAGE;
            let first = if random.one_in(2) { 0 } else { random.index(pages) };
            let count =
                if random.one_in(2) { pages - first } else { 1 + random.index(pages - first) };
            [first, count]
        });
        let prot = random.of(&[1, 1, 2, 3, 3, 3, 3, 3, 3, 5, 7, 0]);
        Some(match random.below(1000) {
            0..60 if model.files.len() < 12 => {
                let access = random.of(&[0, 1, 2, 2, 2, 2, 2, 2, 2, 3]);
                let direct = OFlags::DIRECT.bits();
                let more = random.of(&[
                    0,
                    0,
                    0,
                    0,
                    0o10_000,
                    0o4_010_000,
                    0o4_000,
                    0o2_000,
                    0o2_000_000,
                    0o1000,
                    direct,
                ]);
                Self::Open { kind, flags: access | more }
            }
            60..100 if open.len() > 3 || random.one_in(4) => Self::Close { file: file? },
            100..160 => Self::Get { file: file?, which: random.index(8), place: place(random, 8) },
            160..230 => {
                let [offset, size] = range(random, memory);
                let packed = offset << 32 | (size & 0xffff_fff0) | random.below(16);
                let value = match random.below(8) {
                    0 => 0,
                    1 | 2 => 1,
                    3 => number(random, memory),
                    _ => packed,
                };
                let for_device = random.one_in(2);
                Self::SyncValue { file: file?, for_device, value, place: place(random, 8) }
            }
            230..290 => {
                let [offset, size] = range(random, memory);
                let mut flags = random.below(16) | random.below(8) << 8;
                if random.one_in(8) {
                    flags = random.next();
                }
                Self::SetSync {
                    file: file?,
                    words: [flags, size, offset],
                    place: place(random, 24),
                }
            }
            290..340 => Self::batch(random, file?, memory),
            340..380 => {
                let flags = random.of(&[0, 0, 1, 1, 2, 3, 1 << 63]);
                Self::Claim { file: file?, flags, place: place(random, 8) }
            }
            380..430 => {
                let [offset, size] = page_range(random, memory);
                let flags = random.of(&[0, 1, 1, 1, 2, 1 << 32]);
                Self::ClaimRange {
                    file: file?,
                    words: [offset, size, flags],
                    place: place(random, 24),
                }
            }
            430..450 => {
                let mode = if random.one_in(4) { random.next() } else { random.below(6) };
                Self::MapMode { file: file?, mode, place: place(random, 8) }
            }
            450..500 if model.exports.len() < 6 || random.one_in(8) => {
                let [offset, size] = page_range(random, memory);
                let mut flags = random.of(&[0, 1, 2, 2, 2, 0o2_000_002, 0o4_010_002]);
                if random.one_in(8) {
                    flags = random.next() >> random.below(60);
                }
                Self::Export { file: file?, words: [flags, size, offset], place: place(random, 36) }
            }
            500..510 => {
                let opcode = u32::try_from(random.below(1 << 32)).unwrap_or(0) & 0xffff_00ff;
                Self::Unknown { file: file?, opcode: opcode | 0x5500, place: place(random, 64) }
            }
            510..540 => Self::CloseExport { export: export? },
            540..565 => {
                let flags = if random.one_in(6) { random.next() } else { random.below(8) };
                Self::ExportSync { export: export?, flags, place: place(random, 8) }
            }
            565..575 => Self::ExportOther {
                export: export?,
                which: random.below(7),
                place: place(random, 64),
            },
            575..675 => {
                let at = raw::signed(number(random, memory));
                // Of a large buffer, more than the module copies at once.
                let long = memory > USABLE as u64 && random.one_in(8);
                let most = if long { USABLE + PAGE } else { 3 * PAGE };
                Self::Transfer {
                    file: file?,
                    write: random.one_in(2),
                    at: random.one_in(2).then_some(at),
                    len: random.index(usize::try_from(memory).unwrap_or(PAGE).min(most)) + 1,
                    place: place(random, 5000),
                    fill: random.byte(),
                }
            }
            675..690 => {
                let offset = raw::signed(number(random, memory));
                Self::Seek {
                    file: file?,
                    offset,
                    whence: u8::try_from(random.below(3)).unwrap_or(0),
                }
            }
            690..740 if model.pieces.len() < 16 => {
                let pages = memory / PAGE as u64;
                let first = random.below(pages + 2);
                let count = 1 + random.below(pages - first.min(pages) + 1);
                let flags = random.of(&[1, 1, 1, 1, 1 | 0x8000, 1 | 0x2000, 1 | MAP_FIXED, 2]);
                let whole = memory >= LARGE && random.one_in(2);
                let pages = match random.below(16) {
                    // Wraps, or nearly.
                    0 => [number(random, memory) >> random.below(14), 1 + random.below(pages)],
                    _ if whole => [0, pages],
                    _ => [first, count],
                };
                Self::Map { file: file?, pages, prot, flags }
            }
            740..760 if model.pieces.len() < 16 => {
                let export = export?;
                let pages = model.uses[&model.exports[&export].part].size / PAGE as u64;
                let first = random.below(pages + 1);
                let pages = [first, 1 + random.below(pages - first + 1)];
                let flags = random.of(&[1, 1, 1, 1 | 0x8000, 1 | MAP_FIXED, 2]);
                Self::MapExport { export, pages, prot, flags }
            }
            760..820 => {
                let piece = piece?;
                let len = model.pieces[&piece].len;
                // All of what may be of huge pages, as often as not.
                let large = len as u64 >= LARGE && random.one_in(2);
                let offset = random.index(if large { PAGE } else { len });
                let value = random.one_in(2).then(|| random.byte());
                Self::Touch { piece, offset, value, each: large || random.one_in(4) }
            }
            820..830 => {
                let piece = piece?;
                let offset = random.index(model.pieces[&piece].len);
                Self::PipeTouch { piece, offset, pages: random.one_in(2) }
            }
            830..865 => Self::Unmap { piece: piece?, pages },
            865..875 => {
                use Move::{Copy, Grow, Leave, Shrink, To};
                let how = random.of(&[To, To, To, To, Shrink, Shrink, Grow, Copy, Leave]);
                Self::Move { piece: piece?, pages, how }
            }
            875..890 => Self::Protect { piece: piece?, pages, prot },
            890..905 => Self::Advise {
                piece: piece?,
                pages,
                advice: random
                    .of(&[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
            },
            905..910 => Self::Lock { piece: piece? },
            910..925 => {
                let counter = 8 + random.index(4);
                let any = random.index(19);
                Self::SysRead { kind, which: random.of(&[counter, any]) }
            }
            925..955 => {
                let which = random.index(6);
                let small = [8, memory, memory, 3, 3, 3][which];
                let text = number_text(random, memory, small);
                Self::SysWrite { kind, which, text }
            }
            955..965 => {
                Self::Splice { file: file?, write: random.one_in(2), len: 1 + random.index(8000) }
            }
            965..968 => Self::Other { file: file?, which: random.below(12) },
            968..972 => {
                let range = if random.one_in(8) {
                    [number(random, memory), number(random, memory)]
                } else {
                    range(random, memory)
                };
                let advice = random.of(&[0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 6, -1]);
                Self::FileAdvice { file: file?, range, advice }
            }
            972..974 => {
                let export = export?;
                let size = model.uses[&model.exports[&export].part].size;
                let how = random.below(VMAP + 1);
                Self::Import { export, how, offset: random.below(size), value: random.byte() }
            }
            974 if random.one_in(2) => Self::Pass { file: file?, drop: random.one_in(4) },
            974 => Self::OpenPath { kind },
            975..978 => Self::ReadManager { piece: 1 + random.index(200) },
            978 if random.one_in(4) => Self::CloseManager,
            978 | 979 => Self::HoldMade { name: manager.some_made(random)? },
            980..983 => Self::Unbind { kind },
            983..989 => Self::Bind { kind },
            989..991 => Self::Create { kind },
            991..993 => Self::Delete { kind },
            // Mostly silent: what is logged goes to a slow console.
            993 if random.one_in(4) => {
                let texts = ["1", "7\n", "2", "0x4", "ten", "8 ", "99999999999"];
                let text = if random.one_in(4) { texts[random.index(texts.len())] } else { "0" };
                Self::InfoEnable { text: text.to_owned() }
            }
            993..998 => Self::Text { texts: manager.texts(random), kept: random.one_in(2) },
            998 => Self::Unload,
            999 if random.one_in(4) => Self::Fork { file: file?, value: random.byte() },
            _ => return None,
        })
    }

    fn batch(random: &mut Random, file: Id, memory: u64) -> Self {
        let count = match random.below(40) {
            0 => 4096,
            1 => 4097,
            2 => random.index(4096),
            3..8 => 16 + random.index(3),
            _ => random.index(6),
        };
        // Thousands of large ranges would take seconds.
        let memory = if count > 32 { memory.min(1 << 17) } else { memory };
        let wrong = random.one_in(5).then(|| random.index(count));
        let ranges = (0..count).map(|number| {
            let [mut offset, mut size] = range(random, memory);
            let mut how = random.of(&[1, 3]) | random.below(3) << 32;
            if wrong.is_some_and(|wrong| wrong == number) {
                let any = random.next();
                how = random.of(&[how, any, 0, 2, 1 | 3 << 32]);
            } else if offset > memory || size > memory - offset {
                (offset, size) = (0, memory);
            }
            [offset, size, how]
        });
        Self::Batch {
            file,
            ranges: ranges.collect(),
            claimed_count: if random.one_in(40) {
                u32::MAX
            } else {
                u32::try_from(count).unwrap_or(0)
            },
            flags: if random.one_in(20) { 1 } else { 0 },
            place: place(random, 100),
            header: place(random, 16),
        }
    }
}
