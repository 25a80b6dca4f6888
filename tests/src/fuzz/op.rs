//! The operations.

use super::{arena::Place, model::Id};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Open {
        kind: usize,
        flags: u32,
    },
    Close {
        file: Id,
    },
    Get {
        file: Id,
        which: usize,
        place: Place,
    },
    SyncValue {
        file: Id,
        for_device: bool,
        value: u64,
        place: Place,
    },
    SetSync {
        file: Id,
        words: [u64; 3],
        place: Place,
    },
    Batch {
        file: Id,
        ranges: Vec<[u64; 3]>,
        claimed_count: u32,
        flags: u32,
        place: Place,
        header: Place,
    },
    Claim {
        file: Id,
        flags: u64,
        place: Place,
    },
    ClaimRange {
        file: Id,
        words: [u64; 3],
        place: Place,
    },
    MapMode {
        file: Id,
        mode: u64,
        place: Place,
    },
    Export {
        file: Id,
        words: [u64; 3],
        place: Place,
    },
    /// A number that is none of the interface's.
    Unknown {
        file: Id,
        opcode: u32,
        place: Place,
    },
    CloseExport {
        export: Id,
    },
    ExportSync {
        export: Id,
        flags: u64,
        place: Place,
    },
    /// Other requests to a dma-buf.
    ExportOther {
        export: Id,
        which: u64,
        place: Place,
    },
    Transfer {
        file: Id,
        write: bool,
        at: Option<i64>,
        len: usize,
        place: Place,
        fill: u8,
    },
    Seek {
        file: Id,
        offset: i64,
        whence: u8,
    },
    Map {
        file: Id,
        pages: [u64; 2],
        prot: i32,
        flags: i32,
    },
    MapExport {
        export: Id,
        pages: [u64; 2],
        prot: i32,
        flags: i32,
    },
    /// One byte, or one of each page from there on.
    Touch {
        piece: Id,
        offset: usize,
        value: Option<u8>,
        each: bool,
    },
    /// By a system call, which gets EFAULT where the program gets a signal.
    PipeTouch {
        piece: Id,
        offset: usize,
        pages: bool,
    },
    Unmap {
        piece: Id,
        pages: [usize; 2],
    },
    Move {
        piece: Id,
        pages: [usize; 2],
        how: Move,
    },
    Protect {
        piece: Id,
        pages: [usize; 2],
        prot: i32,
    },
    Advise {
        piece: Id,
        pages: [usize; 2],
        advice: i32,
    },
    Lock {
        piece: Id,
    },
    SysRead {
        kind: usize,
        which: usize,
    },
    SysWrite {
        kind: usize,
        which: usize,
        text: String,
    },
    Splice {
        file: Id,
        write: bool,
        len: usize,
    },
    Other {
        file: Id,
        which: u64,
    },
    FileAdvice {
        file: Id,
        range: [u64; 2],
        advice: i32,
    },
    Unbind {
        kind: usize,
    },
    Bind {
        kind: usize,
    },
    Create {
        kind: usize,
    },
    Delete {
        kind: usize,
    },
    /// To the manager, a write each; to the file that is kept, or to another.
    Text {
        texts: Vec<Vec<u8>>,
        kept: bool,
    },
    ReadManager {
        piece: usize,
    },
    CloseManager,
    HoldMade {
        name: String,
    },
    InfoEnable {
        text: String,
    },
    Unload,
    Fork {
        file: Id,
        value: u8,
    },
    Pass {
        file: Id,
        drop: bool,
    },
    OpenPath {
        kind: usize,
    },
    Import {
        export: Id,
        how: u64,
        offset: u64,
        value: u8,
    },
}

/// How a mapping is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    To,
    Shrink,
    /// These the kernel refuses.
    Grow,
    Copy,
    Leave,
}
