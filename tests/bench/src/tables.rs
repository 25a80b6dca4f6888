//! The two tables of the existing driver's manual: `check_buf`, nine times a
//! pattern written in blocks of 256 bytes, read back and compared, and
//! `clear_buf`, 99 times zeroed. Its rows are the synchronization modes, without
//! and with `O_SYNC`; what decides is the mapping that those two give.

use anyhow::{Result, ensure};
use udmabuf::{Bidirectional, Buffer, Cached, CpuOwned, OpenOptions, Uncached, WriteCombined};

use crate::{
    MIB,
    meter::{X, once, row},
};

const CHECKS: u8 = 9;
const CLEARS: usize = 99;
const SIZES: [usize; 3] = [MIB, 5 * MIB, 10 * MIB];

type Mapped<M> = Buffer<CpuOwned, Bidirectional, M>;

/// How the CPU reaches the bytes of a mapping.
struct Access<M: udmabuf::Mapped> {
    put: fn(&mut Mapped<M>, usize, &[u8]) -> Result<()>,
    is: fn(&Mapped<M>, usize, &[u8]) -> Result<bool>,
    clear: fn(&mut Mapped<M>, usize) -> Result<()>,
}

/// By slices, where there can be any.
macro_rules! by_slices {
    ($mode:ty) => {
        Access::<$mode> {
            put: |buffer, at, from| {
                buffer.as_mut_slice()[at..][..from.len()].copy_from_slice(from);
                Ok(())
            },
            is: |buffer, at, with| Ok(buffer.as_slice()[at..][..with.len()] == *with),
            clear: |buffer, len| {
                buffer.as_mut_slice()[..len].fill(0);
                Ok(())
            },
        }
    };
}

pub(crate) fn measure(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let modes = "sync_mode 0, 4, or 1 to 3 without O_SYNC: cached";
    table(name, &title(modes), &by_slices!(Cached))?;
    let modes = "sync_mode 6, 7, or 2, 3 with O_SYNC: write-combined";
    table(name, &title(modes), &by_slices!(WriteCombined))?;
    let by_value = Access::<Uncached> {
        put: |buffer, at, from| Ok(buffer.copy_from(at, from)?),
        is: |buffer, at, with| Ok(buffer.is_equal(at, with)?),
        clear: |buffer, len| Ok(buffer.fill(0..len, 0)?),
    };
    table(name, &title("sync_mode 5, or 1 with O_SYNC: uncached"), &by_value)
}

fn table<M: udmabuf::Mapped>(name: &str, modes: &str, access: &Access<M>) -> Result<()> {
    let mut buffer = OpenOptions::new().mapped::<M>().open(name)?;
    let len = buffer.len();
    for size in SIZES.into_iter().filter(|&size| size <= len) {
        let mut errors = 0;
        let checked = once(|| {
            for pass in 0..CHECKS {
                let pattern: Vec<u8> = (0..=u8::MAX).map(|byte| byte ^ pass).collect();
                for at in (0..size).step_by(pattern.len()) {
                    (access.put)(&mut buffer, at, &pattern)?;
                }
                for at in (0..size).step_by(pattern.len()) {
                    errors += usize::from(!(access.is)(&buffer, at, &pattern)?);
                }
            }
            anyhow::Ok(())
        })?;
        ensure!(errors == 0, "{errors} wrong blocks");
        row(&format!("check_buf, {modes}"), X::Bytes(size), checked);

        let cleared = once(|| (0..CLEARS).try_for_each(|_| (access.clear)(&mut buffer, size)))?;
        ensure!((access.is)(&buffer, 0, &vec![0; size])?, "not cleared");
        row(&format!("clear_buf, {modes}"), X::Bytes(size), cleared);
    }
    Ok(())
}
