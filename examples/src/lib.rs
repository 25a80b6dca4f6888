//! Drivers for real and emulated DMA engines, in userspace.
//!
//! Each module is one driver: its registers, what it vouches for (the one
//! `unsafe impl Engine`), and a safe public interface. The programs beside
//! `src` use them, as does [`stream`], which goes with any of them.

pub mod accelerator;
pub mod ap_ctrl_hs;
pub mod axidma;
pub mod edu;
pub mod loopback;
pub mod stream;
pub mod zdma;
