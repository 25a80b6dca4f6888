//! A core whose registers read as anything: the driver says that it is done when
//! a word had said so, and not otherwise.
#![no_main]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use udmabuf_examples::ap_ctrl_hs::{ApCtrlHs, Control, Core};
use udmabuf_uio::{
    block,
    emulator::{Device, emulate},
};

block! {
    struct Regs: 0x10 bytes, align 4 {
        0x0 => CONTROL: ApCtrlHs,
    }
}

/// Gives one word after the other, and tells what it gave as control words.
struct Answers {
    words: std::vec::IntoIter<u32>,
    controls: Arc<Mutex<Vec<u32>>>,
}

impl Device for Answers {
    fn read(&mut self, offset: usize) -> u64 {
        let word = self.words.next().unwrap_or(0);
        if offset == 0 {
            self.controls.lock().expect("no panic").push(word);
        }
        word.into()
    }

    fn write(&mut self, _: usize, _: u64) {}

    fn step(&mut self) -> bool {
        false
    }

    fn interrupt(&self) -> bool {
        false
    }
}

fuzz_target!(|input: (Vec<u32>, Vec<u8>)| {
    let (words, calls) = input;
    let controls = Arc::new(Mutex::new(Vec::new()));
    let device = Answers { words: words.into_iter(), controls: controls.clone() };
    let (registers, interrupt) = emulate::<Regs>(device).expect("a thread");
    let read = || std::mem::take(&mut *controls.lock().expect("no panic"));
    // Where no core answers, all bits are 1, and none of them counts.
    let control = |word: u32| Control(if word == u32::MAX { 0 } else { word });
    let is_idle = |word| control(word).get(Control::IDLE) && !control(word).get(Control::START);

    let core = Core::new(registers, Regs::CONTROL, interrupt, Duration::ZERO);
    // The first word is asked whether it repeats, the second whether it is idle.
    let idle = read().get(1).copied().is_some_and(is_idle);
    assert_eq!(core.is_ok(), idle);
    let Ok(mut core) = core else { return };
    let mut done = false;
    for call in calls.into_iter().take(64) {
        match call % 5 {
            0 => {
                let said = core.is_done();
                done |= read().into_iter().any(|word| control(word).get(Control::DONE));
                assert_eq!(said, done);
                done = false;
            }
            1 => {
                let said = core.is_idle();
                let words = read();
                assert_eq!(
                    [said],
                    *words.iter().map(|&word| control(word).get(Control::IDLE)).collect::<Vec<_>>()
                );
                done |= words.into_iter().any(|word| control(word).get(Control::DONE));
            }
            2 => {
                core.start();
                done = false;
            }
            3 => core.acknowledge(),
            _ => {
                let stopped = core.stop(Duration::ZERO).is_ok();
                let words = read();
                assert_eq!(stopped, words.get(1).copied().is_some_and(is_idle));
                done |= words.into_iter().any(|word| control(word).get(Control::DONE));
            }
        }
    }
});
