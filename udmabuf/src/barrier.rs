//! The memory barriers of a handover; registers have theirs in `udmabuf-uio`.
//!
//! Rust's `fence` orders between CPUs (`dmb ish` on arm64); a DMA master sits
//! outside that domain, so the instructions are named here. They order ordinary
//! memory and device registers; cache maintenance has barriers of its own, in
//! the kernel or in `maintenance.rs`.
#![allow(unsafe_code, reason = "barrier instructions are inline assembly")]

use std::sync::atomic::{Ordering, compiler_fence};

macro_rules! barriers {
    ($($arch:literal: $release:literal, $acquire:literal, $drain:literal;)*) => {
        /// What the CPU did to the buffer comes before any later access to the
        /// device: before a doorbell.
        #[inline]
        pub(crate) fn before_device() {
            compiler_fence(Ordering::SeqCst);
            $(
                #[cfg(target_arch = $arch)]
                // SAFETY: a barrier accesses no memory and no register. It is
                // no `nomem`, so the compiler keeps accesses on their side.
                unsafe {
                    core::arch::asm!($release, options(nostack, preserves_flags));
                }
            )*
        }

        /// What was read from the device, its status, comes before any later
        /// read of the buffer.
        #[inline]
        pub(crate) fn after_device() {
            $(
                #[cfg(target_arch = $arch)]
                // SAFETY: as in `before_device`.
                unsafe {
                    core::arch::asm!($acquire, options(nostack, preserves_flags));
                }
            )*
            compiler_fence(Ordering::SeqCst);
        }

        /// Stores to write-combined memory leave the CPU's buffer before what follows.
        #[inline]
        pub(crate) fn drain_combined() {
            $(
                #[cfg(target_arch = $arch)]
                // SAFETY: as in `before_device`.
                unsafe {
                    core::arch::asm!($drain, options(nostack, preserves_flags));
                }
            )*
        }

        #[cfg(not(any($(target_arch = $arch),*)))]
        compile_error!("no DMA barriers are known for this architecture");
    };
}

barriers! {
    // Not `oshst`: a load before the doorbell must not see what the device
    // writes after it. It drains combined stores, too.
    "aarch64": "dmb osh", "dmb oshld", "";
    // Armv7 may write to the device while ordinary stores without cache are still on
    // their way: a `dmb` orders what other CPUs see, and a `dsb` waits. Linux has it
    // in `wmb` and `rmb`. An outer cache (PL310) has a buffer of its own, which only
    // the kernel can empty: see `handover` in `memory/kernel.rs`.
    "arm": "dsb sy", "dsb sy", "";
    "riscv64": "fence iorw, iorw", "fence iorw, iorw", "";
    // x86 keeps these orders by itself, but for combined stores; the (empty)
    // assembly keeps the compiler from changing them.
    "x86_64": "", "", "sfence";
    "x86": "", "", "sfence";
}
