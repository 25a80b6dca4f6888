//! The barriers around a register access that has to do with memory.
//!
//! A driver without DMA buffers has doorbells too, so these are not `udmabuf`'s,
//! whose barriers belong to a handover; and each crate works without the other.
//! On arm64 a DMA master is in the outer shareable domain, beyond the inner one
//! that Rust's `fence` orders.
#![allow(unsafe_code, reason = "barrier instructions are inline assembly")]

macro_rules! barriers {
    ($($arch:literal: $release:literal, $acquire:literal;)*) => {
        /// What was done to memory comes before the store that follows.
        #[inline]
        pub(crate) fn before_doorbell() {
            $(
                #[cfg(target_arch = $arch)]
                // SAFETY: a barrier accesses no memory and no register. It is
                // no `nomem`, so the compiler keeps accesses on their side.
                unsafe {
                    core::arch::asm!($release, options(nostack, preserves_flags));
                }
            )*
        }

        /// The load before comes before what is done to memory from here on.
        #[inline]
        pub(crate) fn after_status() {
            $(
                #[cfg(target_arch = $arch)]
                // SAFETY: as in `before_doorbell`.
                unsafe {
                    core::arch::asm!($acquire, options(nostack, preserves_flags));
                }
            )*
        }

        #[cfg(not(any($(target_arch = $arch),*)))]
        compile_error!("no barriers for registers are known for this architecture");
    };
}

barriers! {
    // Not `oshst`: a load before the doorbell must not see what the device
    // writes after it.
    "aarch64": "dmb osh", "dmb oshld";
    // Armv7 may write to the device while ordinary stores without cache are still on
    // their way: a `dmb` orders what other CPUs see, and a `dsb` waits. Linux has it
    // in `writel` and `readl`. An outer cache's buffer (PL310) is the business of whoever
    // hands memory over, by a system call.
    "arm": "dsb sy", "dsb sy";
    "riscv64": "fence iorw, iorw", "fence i, iorw";
    // Only write-combined stores can be late here; the empty assembly keeps the
    // compiler in order.
    "x86_64": "sfence", "";
    "x86": "sfence", "";
}
