//! Access by value, shared buffers, and checked views.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use udmabuf::{
    Buffer, Cached, CpuParts, Error, FromDevice, Mapped, Parts, ToDevice, Uncached, WriteCombined,
    emulator::Emulator,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes, little_endian::U16};

#[test]
fn values_and_bytes_in_every_mode() {
    fn check<M: Mapped>() {
        let mut buffer = Emulator::new().buffer_mapped::<M>(256);
        buffer.write(8, 0x0102_0304_u32).unwrap();
        assert_eq!(buffer.read::<u32>(8).unwrap(), 0x0102_0304);
        let mut bytes = [0; 7];
        buffer.copy_from(249, b"7 bytes").unwrap();
        buffer.copy_to(249, &mut bytes).unwrap();
        assert_eq!(&bytes, b"7 bytes");
        assert!(buffer.is_equal(249, b"7 bytes").unwrap());
        assert!(!buffer.is_equal(249, b"8 bytes").unwrap());
        buffer.fill(1..10, 0xff).unwrap();
        let sum: u32 = buffer.values::<u8>(0, 12).unwrap().iter().map(u32::from).sum();
        assert_eq!(sum, 9 * 0xff + 2 + 1);

        let values = buffer.values::<u16>(248, 4).unwrap();
        assert_eq!((values.len(), values.get(4)), (4, None));
        assert!(matches!(buffer.read::<u32>(10), Err(Error::Misaligned { offset: 10, align: 4 })));
        let beyond = [
            buffer.read::<u32>(256).err(),
            buffer.read::<u32>(usize::MAX).err(),
            buffer.write(253, [0_u8; 4]).err(),
            buffer.values::<u64>(0, 33).err(),
            buffer.values::<u64>(0, usize::MAX).err(),
            buffer.copy_to(250, &mut bytes).err(),
            buffer.copy_from(250, b"7 bytes").err(),
            buffer.fill(250..257, 0).err(),
            buffer.is_equal(250, b"7 bytes").err(),
        ];
        for error in beyond {
            assert!(matches!(error, Some(Error::OutOfRange { .. })), "{error:?}");
        }
        assert!(buffer.copy_to(256, &mut []).is_ok());
        #[allow(clippy::reversed_empty_ranges, reason = "as a wrong computation gives")]
        let reversed = buffer.fill(300..200, 0);
        assert!(reversed.is_err());
    }
    check::<Cached>();
    check::<WriteCombined>();
    check::<Uncached>();
}

#[test]
fn both_sides_at_once_only_without_a_cache_between_them() {
    let refused = Emulator::new().buffer(64).into_shared().unwrap_err();
    assert!(matches!(refused.error, Error::Unsupported { .. }), "{refused}");
    assert_eq!(refused.value.len(), 64);

    fn check<M: Mapped>(emulator: &Emulator) {
        let bus = emulator.bus();
        let mut ring = emulator.buffer_mapped::<M>(64).into_shared().unwrap();
        let addr = ring.dma_addr().to_u64();
        ring.write(0, 7_u64).unwrap();
        ring.publish();
        let mut seen = [0; 8];
        bus.read(addr, &mut seen).unwrap();
        assert_eq!(u64::from_ne_bytes(seen), 7);
        bus.write(addr + 8, &9_u64.to_ne_bytes()).unwrap();
        ring.observe();
        assert_eq!(ring.read::<u64>(8).unwrap(), 9);

        // SAFETY: the test is the device.
        let ring = unsafe { Buffer::<udmabuf::Shared, _, _>::into_cpu(ring) }.unwrap();
        assert!(bus.write(addr, &[0]).is_err());
        assert_eq!(ring.read::<u64>(8).unwrap(), 9);

        // Many at once, by the transfer's way.
        let parts = (ring.into_shared().unwrap(), emulator.buffer(64).into_device().unwrap());
        assert!(bus.write(addr, &[0]).is_ok());
        // SAFETY: as above.
        unsafe { parts.into_cpu() }.unwrap();
        assert!(bus.write(addr, &[0]).is_err());
    }
    check::<Cached>(&Emulator::new().coherent());
    check::<WriteCombined>(&Emulator::new());
    check::<Uncached>(&Emulator::new());
}

#[test]
fn a_shared_buffer_that_is_dropped_stays() {
    let emulator = Emulator::new().coherent();
    let addr = emulator.buffer(64).into_shared().unwrap().dma_addr().to_u64();
    emulator.bus().write(addr, &[1; 64]).unwrap();
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Packet {
    kind: u32,
    samples: [[U16; 2]],
}

#[derive(Debug, PartialEq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u8)]
enum Status {
    Empty = 0,
    Full = 1,
}

#[test]
fn headers_followed_by_slices() {
    let mut buffer = Emulator::new().buffer(64);
    let packet = buffer.view_with_elems_mut::<Packet>(8, 1).unwrap();
    packet.kind = 1;
    packet.samples[0][1] = U16::new(0x0203);
    assert_eq!(buffer.as_slice()[8..16], [1, 0, 0, 0, 0, 0, 3, 2]);
    assert_eq!(buffer.view_with_elems::<Packet>(8, 1).unwrap().samples[0][1].get(), 0x0203);
    assert_eq!(buffer.view_with_elems::<Packet>(60, 0).unwrap().samples.len(), 0);
    for (offset, count) in [(8, 14), (60, 1), (0, usize::MAX), (usize::MAX, 0), (64, 0)] {
        let error = buffer.view_with_elems::<Packet>(offset, count).err();
        assert!(matches!(error, Some(Error::OutOfRange { .. })), "{offset} {count}: {error:?}");
    }
    let error = buffer.view_with_elems_mut::<Packet>(2, 2).err();
    assert!(matches!(error, Some(Error::Misaligned { offset: 2, align: 4 })), "{error:?}");
}

#[test]
fn what_is_no_value_is_an_error() {
    let emulator = Emulator::new();
    let buffer = emulator.buffer(64).for_direction::<FromDevice>().into_device().unwrap();
    emulator.bus().write(buffer.dma_addr().to_u64(), &[1, 2]).unwrap();
    // SAFETY: the test is the device.
    let buffer = unsafe { buffer.into_cpu() }.unwrap();
    assert_eq!(buffer.try_view::<Status>(0).unwrap(), &Status::Full);
    let error = buffer.try_view::<Status>(1).unwrap_err();
    assert!(error.to_string().ends_with("at offset 1 are no value::Status"), "{error}");
    assert_eq!(buffer.try_view::<Status>(2).unwrap(), &Status::Empty);
    assert!(matches!(buffer.try_view::<Status>(64), Err(Error::OutOfRange { .. })));
    let mut buffer = buffer.for_direction::<ToDevice>();
    assert!(matches!(buffer.try_view_mut::<bool>(1), Err(Error::Invalid { offset: 1, .. })));
    *buffer.try_view_mut::<bool>(0).unwrap() = false;
    assert_eq!(buffer.as_slice()[0], 0);
    assert!(matches!(
        buffer.try_view::<Option<core::num::NonZeroU32>>(2),
        Err(Error::Misaligned { .. })
    ));
    assert!([buffer].into_device().is_ok());
}
