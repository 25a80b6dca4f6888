//! The driver of the AXI DMA on the emulator, and the model that stands for the
//! core.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod bench;
mod cyclic;
mod model;
mod residue;
mod rings;
mod transfers;
mod troubles;
