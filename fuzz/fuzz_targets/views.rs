//! Views at any offset and of any length are inside the buffer, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udmabuf::emulator::Emulator;

fuzz_target!(|input: (u16, usize, usize)| {
    let (size, offset, count) = input;
    let size = usize::from(size) + 1;
    let mut buffer = Emulator::new().buffer(size);
    let fits = |len: usize| offset.checked_add(len).is_some_and(|end| end <= size);
    let words = count.checked_mul(4);

    assert_eq!(buffer.view::<[u8; 16]>(offset).is_ok(), fits(16));
    assert_eq!(
        buffer.slice_of::<u32>(offset, count).is_ok(),
        words.is_some_and(fits) && offset % 4 == 0
    );
    if let Ok(view) = buffer.slice_of_mut::<u32>(offset, count) {
        assert_eq!(view.len(), count);
        view.fill(0x5a5a_5a5a);
    }
    let touched = buffer.as_slice().iter().filter(|&&byte| byte == 0x5a).count();
    assert!(touched == 0 || Some(touched) == words);

    let buffer = buffer.into_device().unwrap();
    let range = offset..offset.saturating_add(count);
    assert_eq!(buffer.dma_addr_of(range.clone()).is_ok(), range.end <= size);
    // SAFETY: there is no device.
    unsafe { buffer.into_cpu() }.unwrap();
});
