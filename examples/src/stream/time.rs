//! What this thread has cost so far.

use std::{fs, time::Duration};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

/// For how long the CPU has worked for it.
pub(super) fn of_thread() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// For how long of that it did so in the kernel; in steps of the kernel's clock.
pub(super) fn of_kernel() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // proc_pid_stat(5): `stime` is the 15th, the 2nd is a name with anything in it.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(12)?.parse().ok()?;
    Some(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_kernel_is_told_apart() {
        let mut zeros = fs::File::open("/dev/zero").unwrap();
        let mut bytes = vec![0; 1 << 20];
        let (all, kernel) = (of_thread(), of_kernel().unwrap());
        while of_kernel().unwrap() < kernel + Duration::from_millis(50) {
            zeros.read_exact(&mut bytes).unwrap();
            assert!(of_thread() - all < Duration::from_secs(30), "it is all told as ours");
        }
        let (all, kernel) = (of_thread(), of_kernel().unwrap());
        for round in 0..u64::MAX {
            std::hint::black_box(round);
            if round % 100_000 == 0 && of_thread() > all + Duration::from_secs(1) {
                break;
            }
        }
        let more = of_kernel().unwrap() - kernel;
        assert!(more < Duration::from_millis(500), "{more:?} of a second without system calls");
    }
}
