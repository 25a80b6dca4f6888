//! Parts of a buffer: each with an owner and a direction of its own.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use udmabuf::{
    Buffer, CpuOwned, CpuParts, DeviceOwned, Direction, Error, FromDevice, Handoff, Parts,
    ToDevice,
    emulator::{Emulator, SyncFault},
};

const LEN: usize = 4096;

fn take<D: Direction>(buffer: Buffer<DeviceOwned, D>) -> Buffer<CpuOwned, D> {
    // SAFETY: the test is the device.
    unsafe { buffer.into_cpu() }.unwrap()
}

#[test]
fn each_part_is_handed_over_alone() {
    let emulator = Emulator::new();
    let bus = emulator.bus();
    let (request, reply) = emulator.buffer(LEN).split_at(1024).unwrap();
    let mut request = request.for_direction::<ToDevice>();
    let reply = reply.for_direction::<FromDevice>().into_device().unwrap();
    assert_eq!((request.offset(), request.len()), (0, 1024));
    assert_eq!((reply.offset(), reply.len()), (1024, 3072));

    // The CPU writes one while the device writes the other.
    request.as_mut_slice().fill(1);
    let addr = reply.dma_addr();
    assert_eq!(addr.len(), 3072);
    bus.write(addr.to_u64(), &[2; 3072]).unwrap();
    assert!(bus.write(addr.to_u64() - 1, &[2]).is_err(), "the device reached the CPU's part");

    let reply = take(reply);
    assert_eq!(reply.as_slice(), [2; 3072]);
    assert_eq!(request.as_slice(), [1; 1024]);
    let request = request.into_device().unwrap();
    assert_eq!(request.dma_addr().to_u64() + 1024, addr.to_u64());
    let mut seen = [0; 1024];
    bus.read(request.dma_addr().to_u64(), &mut seen).unwrap();
    assert_eq!(seen, [1; 1024]);
    take(request);
}

#[test]
fn a_part_starts_at_a_cache_line() {
    for line in [16, 64, 128] {
        let emulator = Emulator::new().with_cache_line(line);
        let mut buffer = emulator.buffer(LEN);
        assert_eq!(buffer.part_alignment(), line);
        for (at, good) in [(1, line), (line - 1, line), (line + 1, 2 * line), (1025, 1024 + line)] {
            let Handoff { error, value } = buffer.split_at(at).unwrap_err();
            let Error::InsideLine { offset, line: said, next } = error else { panic!("{error}") };
            assert_eq!((offset, said, next), (at as u64, line as u64, good as u64));
            buffer = value;
        }
        for empty in [0, LEN, LEN + 1, usize::MAX] {
            let Handoff { error, value } = buffer.split_at(empty).unwrap_err();
            assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
            buffer = value;
        }
        let message = buffer.split_at(line + 1).unwrap_err().to_string();
        assert!(message.contains(&format!("next good offset is {}", 2 * line)), "{message}");
    }
}

#[test]
fn chunks_cover_the_buffer() {
    let emulator = Emulator::new();
    let chunks = emulator.buffer(10_000).into_chunks(4096).unwrap();
    let places: Vec<_> = chunks.iter().map(|part| (part.offset(), part.len())).collect();
    assert_eq!(places, [(0, 4096), (4096, 4096), (8192, 1808)]);
    assert_eq!(emulator.buffer(4096).into_chunks(4096).unwrap().len(), 1);
    assert_eq!(emulator.buffer(4096).into_chunks(usize::MAX).unwrap().len(), 1);
    for len in [0, 1, 65] {
        let back = emulator.buffer(4096).into_chunks(len).unwrap_err();
        assert_eq!(back.value.len(), 4096, "{back}");
    }
}

#[test]
fn only_neighbours_join_and_come_back_otherwise() {
    let emulator = Emulator::new();
    let [a, b, c]: [Buffer; 3] =
        emulator.buffer(3 * 64).into_chunks(64).unwrap().try_into().unwrap();
    let Handoff { error, value: (a, c) } = a.join(c).unwrap_err();
    assert!(matches!(error, Error::NotNeighbours { .. }), "{error}");
    let Handoff { value: (b, a), .. } = b.join(a).unwrap_err();
    let Handoff { value: (a, _), .. } = a.join(emulator.buffer(64)).unwrap_err();
    let mut whole = a.join(b).unwrap().join(c).unwrap();
    assert_eq!((whole.offset(), whole.len()), (0, 192));
    whole.as_mut_slice().fill(9);
    take(whole.into_device().unwrap());
}

#[test]
fn a_part_keeps_the_buffer() {
    let emulator = Emulator::new();
    let (front, back) = emulator.buffer(LEN).split_at(64).unwrap();
    let addr = front.into_device().unwrap().dma_addr().to_u64(); // dropped, device-owned
    drop(back);
    // Still there, and the device's for good.
    emulator.bus().write(addr, &[1; 64]).unwrap();
    assert!(emulator.bus().write(addr + 64, &[1]).is_err());

    let (front, back) = emulator.buffer(LEN).split_at(64).unwrap();
    drop(front);
    assert_eq!(back.as_slice(), [0; LEN - 64]);
    let addr = back.into_device().map(take).unwrap().into_device().unwrap();
    let (addr, buffer) = (addr.dma_addr().to_u64(), take(addr));
    drop(buffer);
    assert!(emulator.bus().write(addr, &[1]).is_err(), "the buffer outlived its parts");
}

#[test]
fn parts_go_to_other_threads() {
    let emulator = Emulator::new();
    let parts = emulator.buffer(64 * 64).into_chunks(64).unwrap();
    let threads: Vec<_> = (0..)
        .zip(parts)
        .map(|(number, mut part)| {
            let bus = emulator.bus();
            std::thread::spawn(move || {
                part.as_mut_slice().fill(number);
                let part = part.into_device().unwrap();
                let mut seen = [0; 64];
                bus.read(part.dma_addr().to_u64(), &mut seen).unwrap();
                assert_eq!(seen, [number; 64]);
                take(part)
            })
        })
        .collect();
    let mut parts = threads.into_iter().map(|thread| thread.join().unwrap());
    let first = parts.next().unwrap();
    let whole = parts.fold(first, |joined, part| joined.join(part).unwrap());
    assert_eq!(whole.len(), 64 * 64);
    let firsts: Vec<_> = whole.as_slice().iter().copied().step_by(64).collect();
    assert_eq!(firsts, (0..64).collect::<Vec<u8>>());
}

#[test]
fn many_at_once_all_or_none() {
    let emulator = Emulator::new();
    let bus = emulator.bus();
    let reaches = |addr: u64| bus.read(addr, &mut [0]).is_ok();

    let other = emulator.buffer(64);
    let parts = (emulator.buffer(256).into_chunks(64).unwrap(), [other], emulator.buffer(64));
    let parts = parts.into_device().unwrap();
    let addrs: Vec<_> = parts
        .0
        .iter()
        .chain(&parts.1)
        .chain([&parts.2])
        .map(|part| part.dma_addr().to_u64())
        .collect();
    assert!(addrs.iter().copied().all(reaches));

    // The last fails: no part is the CPU's, and again is from the start.
    let last = parts.2.name().to_owned();
    emulator.inject(SyncFault::all().for_cpu().of(&last));
    // SAFETY: the test is the device.
    let Handoff { value: parts, .. } = unsafe { parts.into_cpu() }.unwrap_err();
    assert!(!addrs.iter().copied().any(reaches), "the device is not locked out");
    emulator.clear_faults();
    // SAFETY: as above.
    let parts = unsafe { parts.into_cpu() }.unwrap();
    assert!(!addrs.iter().copied().any(reaches));

    emulator.inject(SyncFault::all().for_device().of(&last));
    let Handoff { value: parts, .. } = parts.into_device().unwrap_err();
    assert!(!addrs.iter().copied().any(reaches), "some stayed with the device");
    emulator.clear_faults();
    // SAFETY: as above.
    unsafe { parts.into_device().unwrap().into_cpu() }.unwrap();
}

#[test]
fn names_are_readable() {
    let emulator = Emulator::new();
    let (_, part) = emulator.buffer(4096).split_at(64).unwrap();
    let part = part.for_direction::<FromDevice>();
    assert_eq!(
        format!("{part:?}"),
        format!("Buffer<CpuOwned, FromDevice, Cached>({}[0x40, 4032 bytes])", part.name())
    );
}
