//! What the emulator shows: who sees which bytes when, and a device that
//! does what it must not.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use udmabuf::{
    Bidirectional, Buffer, CpuOwned, DeviceOwned, Direction, Error, FromDevice, ToDevice,
    emulator::{Bus, BusError, Emulator, SyncFault},
};

const LEN: usize = 10_000; // neither whole pages nor whole cache lines

fn give<D: Direction>(buffer: Buffer<CpuOwned, D>) -> Buffer<DeviceOwned, D> {
    buffer.into_device().unwrap()
}

fn take<D: Direction>(buffer: Buffer<DeviceOwned, D>) -> Buffer<CpuOwned, D> {
    // SAFETY: the test is the device.
    unsafe { buffer.into_cpu() }.unwrap()
}

fn device_reads(bus: &Bus, addr: u64) -> Result<Vec<u8>, BusError> {
    let mut bytes = vec![0; LEN];
    bus.read(addr, &mut bytes).map(|()| bytes)
}

#[test]
fn each_side_sees_the_other_only_after_a_handover() {
    let emulator = Emulator::new();
    let bus = emulator.bus();
    let mut buffer = emulator.buffer(LEN);
    buffer.as_mut_slice().fill(1);

    let buffer = give(buffer);
    let addr = buffer.dma_addr().to_u64();
    assert_eq!(device_reads(&bus, addr).unwrap(), [1; LEN]);
    bus.write(addr, &[2; LEN]).unwrap();

    let buffer = take(buffer);
    assert_eq!(buffer.as_slice(), [2; LEN]);
}

#[test]
fn a_missing_sync_shows_stale_bytes() {
    let emulator = Emulator::new().without_sync_for_device();
    let mut buffer = emulator.buffer(LEN);
    buffer.as_mut_slice().fill(1);
    let buffer = give(buffer);
    assert_eq!(device_reads(&emulator.bus(), buffer.dma_addr().to_u64()).unwrap(), [0; LEN]);
    take(buffer);

    let emulator = Emulator::new().without_sync_for_cpu();
    let buffer = give(emulator.buffer(LEN));
    emulator.bus().write(buffer.dma_addr().to_u64(), &[2; LEN]).unwrap();
    assert_eq!(take(buffer).as_slice(), [0; LEN]);
}

#[test]
fn the_bus_refuses_what_a_device_must_not_do() {
    let emulator = Emulator::new();
    let bus = emulator.bus();
    let buffer = give(emulator.buffer(LEN).for_direction::<ToDevice>());
    let addr = buffer.dma_addr().to_u64();
    let end = addr + LEN as u64;

    assert!(device_reads(&bus, addr).is_ok());
    assert_eq!(bus.write(addr, &[1]), Err(BusError::WrongDirection { addr, len: 1 }));
    for (addr, len) in [(end, 1), (end - 1, 2), (addr - 1, 1), (0, 1), (u64::MAX, 2)] {
        assert_eq!(bus.read(addr, &mut vec![0; len]), Err(BusError::NoMemory { addr, len }));
    }

    let buffer = take(buffer);
    assert_eq!(bus.read(addr, &mut [0]), Err(BusError::CpuOwned { addr, len: 1 }));
    let buffer = give(buffer.for_direction::<FromDevice>());
    assert_eq!(bus.read(addr, &mut [0]), Err(BusError::WrongDirection { addr, len: 1 }));
    bus.write(end - 1, &[1]).unwrap();

    drop(take(buffer));
    assert_eq!(bus.write(addr, &[1]), Err(BusError::NoMemory { addr, len: 1 }));
}

#[test]
fn a_device_owned_buffer_is_never_freed() {
    let emulator = Emulator::new();
    let addr = give(emulator.buffer(LEN)).dma_addr().to_u64();
    // The device still writes there, and nobody else's buffer is there.
    emulator.bus().write(addr, &[1; LEN]).unwrap();
    assert_ne!(give(emulator.buffer(LEN)).dma_addr().to_u64(), addr);
}

#[test]
fn buffers_do_not_touch() {
    let emulator = Emulator::new();
    let mut buffers: Vec<_> = [1, 4096, 4097, LEN].map(|len| give(emulator.buffer(len))).into();
    // One that would fill the hole, but for the page that is left free.
    drop(take(buffers.remove(1)));
    buffers.push(give(emulator.buffer(2 * 4096)));
    buffers.sort_by_key(Buffer::dma_addr);
    for pair in buffers.windows(2) {
        let end = pair[0].dma_addr().to_u64() + pair[0].len() as u64;
        assert!(end < pair[1].dma_addr().to_u64());
    }
}

#[test]
fn views_are_checked() {
    let emulator = Emulator::new();
    let mut buffer: Buffer<CpuOwned, Bidirectional> = emulator.buffer(64);
    *buffer.view_mut::<u32>(60).unwrap() = 7;
    assert_eq!(buffer.slice_of::<u32>(56, 2).unwrap(), [0, 7]);
    buffer.slice_of_mut::<u16>(0, 32).unwrap()[1] = 5;
    assert_eq!(buffer.view::<[u8; 4]>(0).unwrap(), &[0, 0, 5, 0]);
    assert!(buffer.slice_of::<u64>(64, 0).unwrap().is_empty());

    for (offset, len) in [(61, 4), (64, 4), (usize::MAX, 4)] {
        let Err(Error::OutOfRange { offset: o, len: l, size }) = buffer.view::<[u8; 4]>(offset)
        else {
            panic!("a view of {len} bytes at {offset}");
        };
        assert_eq!((o, l, size), (offset as u64, len, 64));
    }
    assert!(matches!(buffer.slice_of::<u32>(0, 17), Err(Error::OutOfRange { .. })));
    assert!(matches!(buffer.slice_of::<u32>(0, usize::MAX), Err(Error::OutOfRange { .. })));
    let wraps = usize::MAX / size_of::<u32>() + 2;
    assert!(matches!(buffer.values::<u32>(0, wraps), Err(Error::OutOfRange { .. })));
    assert!(matches!(buffer.view_mut::<u32>(2), Err(Error::Misaligned { offset: 2, align: 4 })));
    assert!(matches!(buffer.slice_of_mut::<u64>(4, 1), Err(Error::Misaligned { .. })));

    let buffer = give(buffer);
    assert_eq!(buffer.dma_addr_of(60..64).unwrap().to_u64(), buffer.dma_addr().to_u64() + 60);
    assert!(buffer.dma_addr_of(60..65).is_err());
    #[allow(clippy::reversed_empty_ranges, reason = "as a wrong computation gives")]
    let reversed = buffer.dma_addr_of(8..4);
    assert!(reversed.is_err());
    take(buffer);
}

#[test]
fn a_buffer_of_no_module_says_what_would_help() {
    for (name, said) in [
        ("no-such-buffer", "/dev/no-such-buffer does not exist"),
        ("", "not a buffer's name"),
        ("/dev/null", "not a buffer's name"),
        ("../null", "not a buffer's name"),
        ("null", "not a DMA buffer"),
    ] {
        let Err(error) = Buffer::open(name) else { panic!("{name:?} was opened") };
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn errors_say_what_was_tried_on_what() {
    fn says<T, E: std::error::Error>(result: Result<T, E>, parts: &[&str]) {
        let Err(error) = result else { panic!("no error with {parts:?}") };
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
    }

    let emulator = Emulator::new();
    let mut buffer = emulator.buffer(4096);
    let name = buffer.name().to_owned();
    says(buffer.view::<u32>(4094), &["4 bytes", "offset 4094", "4096 bytes"]);
    says(buffer.view::<u32>(2), &["offset 2", "multiple of 4"]);
    buffer.as_mut_slice()[7] = 2;
    says(buffer.try_view::<bool>(7), &["offset 7", "bool"]);
    says(Buffer::from_heap("no-such-heap", 1), &["open", "/dev/dma_heap/no-such-heap"]);

    emulator.inject(SyncFault::all().times(1));
    says(buffer.into_device(), &["sync for the device", &name, "0x1000 bytes"]);
    says(emulator.buffer(4096).split_at(100), &["offset 100", "64 bytes", "offset is 128"]);
    let (front, back) = emulator.buffer(4096).split_at(1024).unwrap();
    says(back.join(front), &["[0x0, 1024 bytes]", "[0x400, 3072 bytes]"]);

    let lent = give(emulator.buffer(4096));
    let addr = lent.dma_addr().to_string();
    says(lent.dma_addr().to_words(16), &["4096 bytes", &addr, "16 bits"]);
    says(lent.export(), &["emulated", "only a buffer of the kernel module"]);
}
