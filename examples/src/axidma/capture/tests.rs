//! What a core says while a part is being copied, which no run of the model
//! repeats: its descriptors' statuses are said here.
#![allow(unsafe_code, reason = "implements an unsafe function, which does nothing")]

use std::sync::{Arc, Mutex};

use udmabuf::{Buffer, DmaAddr, FromDevice, Shared, Uncached, emulator::Emulator};
use udmabuf_uio::emulator::Emulated;

use crate::axidma::{
    AxiDma, Build, Channel, DESCRIPTOR_LEN, Mode, Side,
    descriptors::{Descriptors, Memory},
    registers::descriptor,
};

const PARTS: usize = 8;
const LEN: usize = 128;
const COMPLETE: u32 = 1 << 31 | 1 << 26 | 128; // `LEN`

/// The descriptors' statuses, and which are complete after so many more reads.
#[derive(Debug, Default)]
struct Said {
    statuses: [u32; PARTS],
    late: Option<(usize, Vec<usize>)>,
}

impl Said {
    fn complete(&mut self, indices: &[usize]) {
        indices.iter().for_each(|&index| self.statuses[index] = COMPLETE);
    }
}

#[derive(Debug)]
struct Statuses(Buffer<Shared>, Arc<Mutex<Said>>);

impl Memory for Statuses {
    fn dma_addr(&self) -> DmaAddr {
        self.0.dma_addr()
    }
    fn read(&self, offset: usize) -> Result<u32, udmabuf::Error> {
        assert_eq!(offset % DESCRIPTOR_LEN, descriptor::STATUS);
        let mut said = self.1.lock().unwrap();
        if let Some((reads @ 1.., _)) = &mut said.late {
            *reads -= 1;
        } else if let Some((_, late)) = said.late.take() {
            said.complete(&late);
        }
        Ok(said.statuses[offset / DESCRIPTOR_LEN])
    }
    fn write(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error> {
        if offset % DESCRIPTOR_LEN == descriptor::STATUS {
            self.1.lock().unwrap().statuses[offset / DESCRIPTOR_LEN] = word;
        }
        self.0.write(offset, word)
    }
    fn publish(&self) {}
    fn observe(&self) {}
    unsafe fn release(self: Box<Self>) {}
}

type Capturing = udmabuf::Transfer<Channel<Emulated>, Vec<Buffer<Shared, FromDevice, Uncached>>>;

fn capture() -> (AxiDma<Emulated>, Arc<Mutex<Said>>, Capturing) {
    let emulator = Emulator::new().coherent();
    let build = Build::LEAST;
    let (dma, _) = AxiDma::emulated(&emulator, build, Mode::ScatterGather).unwrap();
    let said = Arc::<Mutex<Said>>::default();
    let memory = emulator.buffer(PARTS * DESCRIPTOR_LEN).into_shared().unwrap();
    let memory = Box::new(Statuses(memory, said.clone()));
    dma.s2mm.core().lock().lane(Side::S2mm).descriptors = Some(Descriptors::new(memory, build));
    let parts = emulator.buffer_mapped(PARTS * LEN).for_direction().into_chunks(LEN).unwrap();
    let parts = parts.into_iter().map(|part| part.into_shared().unwrap()).collect();
    let capturing = dma.s2mm.repeat(parts).unwrap();
    (dma, said, capturing)
}

#[test]
fn a_part_that_is_written_over_while_it_is_copied_is_not_there() {
    // Reads, until it knows where the part is: the one beyond, three, and the next.
    for (late, is_whole) in [(vec![], true), (vec![3, 4], true), (vec![3, 4, 5], false)] {
        let (dma, said, capturing) = capture();
        said.lock().unwrap().complete(&[0, 1, 2]);
        said.lock().unwrap().late = Some((5, late.clone()));
        let copied = dma.s2mm.copy_part(&capturing, 2, &mut [0; LEN]).unwrap();
        assert_eq!(copied, is_whole, "{late:?} came meanwhile");
        let late = said.lock().unwrap().late.take();
        assert_eq!(late, None, "nobody asked again");
    }
}

#[test]
fn a_status_that_was_cleared_too_late_is_noticed() {
    let (dma, said, capturing) = capture();
    let is_there = |number| dma.s2mm.copy_part(&capturing, number, &mut [0; LEN]).unwrap();
    said.lock().unwrap().complete(&[0, 1, 2]);
    assert!(is_there(2));
    said.lock().unwrap().complete(&[4]); // so 3 must have been, too
    assert!(!is_there(2));
    said.lock().unwrap().complete(&[3]);
    assert!(is_there(2) && is_there(4));
}
