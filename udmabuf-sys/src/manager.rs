//! Buffers at run time: the commands of `/dev/u-dma-buf-mgr`.

use std::{
    fmt::{self, Display, Formatter},
    io::Write,
    os::fd::BorrowedFd,
};

use rustix::io::{Errno, Result, write};

/// The device file that takes the commands.
pub const PATH: &str = "/dev/u-dma-buf-mgr";

/// The longest command, in bytes.
pub const COMMAND_MAX: usize = 1024;

/// What `create` can be told beside a name and a size. The default leaves all of
/// it to the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// The device that the memory is for: its bus and name, as in
    /// `/sys/bus/<bus>/devices/<name>`.
    pub parent: Option<(&'a str, &'a str)>,
    /// Bits in the DMA mask.
    pub dma_mask: Option<u32>,
    /// How the CPU maps it.
    pub mapping: Option<Quirk>,
}

/// `quirk-mmap-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// `on`: cached, whatever the architecture's default.
    On,
    /// `off`: as the DMA API maps it.
    Off,
    /// `auto`: on unless the device is coherent.
    Auto,
    /// `page`: as `on`, and mapped as ordinary pages.
    Page,
}

impl Display for Quirk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "quirk-mmap-on",
            Self::Off => "quirk-mmap-off",
            Self::Auto => "quirk-mmap-auto",
            Self::Page => "quirk-mmap-page",
        })
    }
}

/// A command in the making.
struct Command {
    text: [u8; COMMAND_MAX],
    len: usize,
}

impl Command {
    const fn new() -> Self {
        Self { text: [0; COMMAND_MAX], len: 0 }
    }

    /// Adds text; `NOSPC` if it gets too long.
    fn add(&mut self, text: impl Display) -> Result<()> {
        let mut rest = self.text.get_mut(self.len..).ok_or(Errno::NOSPC)?;
        let before = rest.len();
        write!(rest, "{text}").map_err(|_| Errno::NOSPC)?;
        self.len += before - rest.len();
        Ok(())
    }

    /// Adds a word as it is; `INVAL` if the module would read another thing.
    fn add_word(&mut self, word: &str) -> Result<()> {
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
            return Err(Errno::INVAL);
        }
        self.add(word)
    }

    fn send(&mut self, manager: BorrowedFd<'_>) -> Result<()> {
        self.add('\n')?;
        let mut rest = self.text.get(..self.len).ok_or(Errno::NOSPC)?;
        // What is left unfinished would be the start of this file's next command.
        while !rest.is_empty() {
            rest = match write(manager, rest)? {
                0 => return Err(Errno::IO),
                taken => rest.split_at(taken).1,
            };
        }
        Ok(())
    }
}

/// Creates the buffer `/dev/<name>` of `size` bytes, through [`PATH`] open for
/// writing.
///
/// ```no_run
/// use std::{fs::File, os::fd::AsFd};
/// use udmabuf_sys::manager::{self, Options};
///
/// let manager = File::options().write(true).open(manager::PATH)?;
/// let options = Options { dma_mask: Some(40), ..Options::default() };
/// manager::create(manager.as_fd(), "camera", 8 << 20, options)?;
/// manager::delete(manager.as_fd(), "camera")?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `INVAL`: a bad name, no such parent, a size of 0. `BUSY` or `EXIST`: the name
/// is taken, or all minor numbers are. `NOMEM`.
pub fn create(manager: BorrowedFd<'_>, name: &str, size: u64, options: Options<'_>) -> Result<()> {
    let mut command = Command::new();
    command.add("create ")?;
    command.add_word(name)?;
    command.add(format_args!(" {size}"))?;
    if let Some((bus, device)) = options.parent {
        command.add(" bus=")?;
        command.add_word(bus)?;
        command.add(" device=")?;
        command.add_word(device)?;
    }
    if let Some(bits) = options.dma_mask {
        command.add(format_args!(" dma-mask={bits}"))?;
    }
    if let Some(quirk) = options.mapping {
        command.add(format_args!(" {quirk}"))?;
    }
    command.send(manager)
}

/// Deletes a buffer that was made by [`create`].
///
/// # Errors
/// `INVAL`: there is none of that name. `BUSY`: it is open, mapped or exported.
/// `OWNERDEAD`: a claimant ended with a part at a device, and nobody has claimed the
/// buffer since, with `adopt`.
pub fn delete(manager: BorrowedFd<'_>, name: &str) -> Result<()> {
    let mut command = Command::new();
    command.add("delete ")?;
    command.add_word(name)?;
    command.send(manager)
}
