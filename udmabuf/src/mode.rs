//! How a buffer is mapped: the third type parameter of [`Buffer`](crate::Buffer).

/// Through the CPU's cache, which a handover cleans or invalidates where the
/// hardware does not: the default, and the fastest for the CPU.
#[derive(Clone, Copy, Debug)]
pub enum Cached {}

/// Past the cache; stores are combined into bursts. Writing a whole buffer is
/// fast, reading it slow. Ordinary memory in all else, so it gives slices.
///
/// On 32-bit ARM with an outer cache (PL310: Zynq-7000, Cyclone V) stores may stay in
/// that one's buffer, which no program can empty. So there each handover is a system
/// call, and what a running device shares is mapped [`Uncached`].
#[derive(Clone, Copy, Debug)]
pub enum WriteCombined {}

/// Past the cache, each access as it is. On arm64 this is Device memory, on
/// which an unaligned access, or a `memset` that uses `DC ZVA`, ends the process
/// with SIGBUS: no slices and views, but [access by value](crate::Buffer#access-by-value).
#[derive(Clone, Copy, Debug)]
pub enum Uncached {}

/// A dma-buf of another driver, cached as that driver likes and synced through
/// it. Its bus address is for the kernel drivers that attach it, so there is
/// a descriptor instead.
#[derive(Clone, Copy, Debug)]
pub enum Foreign {}

/// How a buffer is mapped.
///
/// ```
/// use udmabuf::{Buffer, Uncached, WriteCombined, emulator::Emulator};
///
/// // On a board: OpenOptions::new().write_combined().open("udmabuf0")?
/// let mut frame = Emulator::new().buffer_mapped::<WriteCombined>(4096);
/// frame.as_mut_slice().fill(0xff);
///
/// // On a board: OpenOptions::new().uncached().open("udmabuf0")?
/// let mut words = Emulator::new().buffer_mapped::<Uncached>(4096);
/// words.write(8, 0xffff_ffff_u32)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CacheMode: sealed::Mode {}
impl CacheMode for Cached {}
impl CacheMode for WriteCombined {}
impl CacheMode for Uncached {}
impl CacheMode for Foreign {}

/// Mappings that are ordinary memory, so that there can be references to it:
/// all but [`Uncached`].
#[diagnostic::on_unimplemented(
    message = "no reference to `{Self}` memory: an unaligned or cache-line access through it would be a bus error",
    label = "needs a `Cached` or `WriteCombined` buffer",
    note = "use access by value (`read`, `write`) and the bulk copies (`copy_to`, `copy_from`, `fill`), which use aligned words only"
)]
pub trait Slices: CacheMode {}
impl Slices for Cached {}
impl Slices for WriteCombined {}
impl Slices for Foreign {}

/// Mappings of buffers whose bus address is known here: all but [`Foreign`].
#[diagnostic::on_unimplemented(
    message = "a `{Self}` buffer has no bus address: its own driver gives one to each device that attaches it",
    label = "has a descriptor instead of an address",
    note = "pass `as_fd()` to the kernel driver that is to use it, or say with `import_at` what its address is"
)]
pub trait Addressed: CacheMode {}
impl Addressed for Cached {}
impl Addressed for WriteCombined {}
impl Addressed for Uncached {}

/// Mappings of the kernel module, which can be asked for at opening.
#[diagnostic::on_unimplemented(
    message = "the kernel module maps no buffer as `{Self}`",
    label = "expected `Cached`, `WriteCombined` or `Uncached`"
)]
pub trait Mapped: Addressed + sealed::Mapped {}
impl Mapped for Cached {}
impl Mapped for WriteCombined {}
impl Mapped for Uncached {}

pub(crate) mod sealed {
    use udmabuf_sys::abi;

    use super::{Cached, Foreign, Uncached, WriteCombined};

    #[diagnostic::on_unimplemented(
        message = "`{Self}` is no way to map a buffer",
        label = "expected `Cached`, `WriteCombined`, `Uncached` or `Foreign`"
    )]
    pub trait Mode: Send + Sync + 'static {
        /// Whether the CPU's accesses go through its cache.
        const CACHED: bool;
        /// Whether stores wait in a buffer of the CPU that a barrier drains.
        const COMBINES: bool = false;
    }

    impl Mode for Cached {
        const CACHED: bool = true;
    }
    impl Mode for WriteCombined {
        const CACHED: bool = false;
        const COMBINES: bool = true;
    }
    impl Mode for Uncached {
        const CACHED: bool = false;
    }
    impl Mode for Foreign {
        const CACHED: bool = true;
    }

    pub trait Mapped {
        /// As `SET_MAP_MODE` takes it.
        const MAP_MODE: u64;
        /// The `sync_mode` that gives it to a file that is open with `O_SYNC`.
        const SYNC_MODE: u64;
    }

    impl Mapped for Cached {
        const MAP_MODE: u64 = abi::MAP_CACHED;
        const SYNC_MODE: u64 = 0;
    }
    impl Mapped for WriteCombined {
        const MAP_MODE: u64 = abi::MAP_WRITE_COMBINED;
        const SYNC_MODE: u64 = 2;
    }
    impl Mapped for Uncached {
        const MAP_MODE: u64 = abi::MAP_UNCACHED;
        const SYNC_MODE: u64 = 1;
    }
}
