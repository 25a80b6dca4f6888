//! Makes one system call of a thread fail: the kernel asks this process about each
//! (`seccomp_unotify(2)`), and is told to go on, or which error to give.
#![allow(unsafe_code, reason = "system calls that no crate has: seccomp and its ioctls")]

use std::{
    ffi::{c_long, c_void},
    os::fd::{FromRawFd, OwnedFd},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
};

use crate::filter::{Instruction, Program};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Numbers of system calls: the kernel's `asm/unistd.h`.
struct Numbers {
    seccomp: c_long,
    /// Only with a file: what allocates memory must not fail, as Rust aborts then.
    mmap: u32,
    /// openat, ioctl, read, write, pread64, pwrite64, flock, poll, ppoll,
    /// getdents64, readlinkat, fadvise64 and their other forms, by name.
    others: &'static [(u32, &'static str)],
}

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
const NUMBERS: Numbers = Numbers {
    seccomp: 277,
    mmap: 222,
    others: &[
        (56, "openat"),
        (29, "ioctl"),
        (63, "read"),
        (64, "write"),
        (67, "pread64"),
        (68, "pwrite64"),
        (32, "flock"),
        (73, "ppoll"),
        (61, "getdents64"),
        (78, "readlinkat"),
        (223, "fadvise64"),
    ],
};
#[cfg(target_arch = "x86_64")]
const NUMBERS: Numbers = Numbers {
    seccomp: 317,
    mmap: 9,
    others: &[
        (257, "openat"),
        (16, "ioctl"),
        (0, "read"),
        (1, "write"),
        (17, "pread64"),
        (18, "pwrite64"),
        (73, "flock"),
        (7, "poll"),
        (271, "ppoll"),
        (217, "getdents64"),
        (89, "readlink"),
        (221, "fadvise64"),
    ],
};
#[cfg(target_arch = "arm")]
const NUMBERS: Numbers = Numbers {
    seccomp: 383,
    mmap: 192,
    others: &[
        (322, "openat"),
        (54, "ioctl"),
        (3, "read"),
        (4, "write"),
        (180, "pread64"),
        (181, "pwrite64"),
        (143, "flock"),
        (168, "poll"),
        (336, "ppoll"),
        (414, "ppoll_time64"),
        (217, "getdents64"),
        (85, "readlink"),
        (270, "arm_fadvise64_64"),
    ],
};
/// Another word size of a board's architecture, whose programs do not come here.
#[cfg(target_arch = "x86")]
const NUMBERS: Numbers = Numbers { seccomp: 354, mmap: 192, others: &[] };

/// `struct seccomp_notif` of `linux/seccomp.h`.
#[derive(Default)]
#[repr(C)]
struct Notice {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const FLAG_CONTINUE: u32 = 1;
const RECEIVE: Opcode = opcode::read_write::<Notice>(b'!', 0);
const SEND: Opcode = opcode::read_write::<Answer>(b'!', 1);

/// What happened to the thread.
pub(super) struct Outcome<T> {
    pub(super) result: T,
    /// How many system calls it made of those that can fail.
    pub(super) calls: u32,
    /// The name of the one that failed.
    pub(super) failed: Option<&'static str>,
}

/// Runs `what` on a thread whose system call number `nth` fails with `errno`.
pub(super) fn run<T: Send>(
    nth: u32,
    errno: Errno,
    what: impl FnOnce() -> T + Send,
) -> Result<Outcome<T>> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let worker = scope.spawn(move || {
            let listener = install().context("seccomp");
            let installed = listener.is_ok();
            let _ = sender.send(listener);
            installed.then(what)
        });
        let listener = receiver.recv().context("no listener")??;
        let (calls, failed) = supervise(&listener, nth, errno)?;
        drop(listener);
        let result =
            worker.join().map_err(|_| anyhow!("panicked; its message is on the console"))?;
        Ok(Outcome { result: result.context("did not run")?, calls, failed })
    })
}

/// The filter, for this thread as long as it lives.
fn install() -> Result<OwnedFd> {
    const SET_MODE_FILTER: c_long = 1;
    const NEW_LISTENER: c_long = 1 << 3;
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    /// Of `struct seccomp_data`: the fifth argument's lower half.
    const FIFTH: u32 = 16 + 4 * 8;
    let step = |code, if_true, if_false, value| Instruction { code, if_true, if_false, value };
    let mut program = vec![
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 3, NUMBERS.mmap),
        step(LOAD, 0, 0, FIFTH),
        step(EQUAL, 0, 1, u32::MAX),
        step(RETURN, 0, 0, ALLOW),
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 1, NUMBERS.mmap),
        step(RETURN, 0, 0, NOTIFY),
    ];
    for &(number, _) in NUMBERS.others {
        program.push(step(EQUAL, 0, 1, number));
        program.push(step(RETURN, 0, 0, NOTIFY));
    }
    program.push(step(RETURN, 0, 0, ALLOW));
    let program = Program { len: program.len().try_into()?, instructions: program.leak().as_ptr() };
    // SAFETY: a program of that length, which is never freed.
    let fd = unsafe {
        syscall(NUMBERS.seccomp, SET_MODE_FILTER, NEW_LISTENER, std::ptr::from_ref(&program))
    };
    ensure!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call gave it to this thread alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.try_into()?) })
}

struct Exchange<T>(Opcode, T);

// SAFETY: both structures are those of the kernel's header, as the opcodes say.
unsafe impl<T> Ioctl for Exchange<T> {
    type Output = T;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.1).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, argument: *mut c_void) -> rustix::io::Result<T> {
        // SAFETY: what `as_ptr` gave, which the kernel has filled in.
        Ok(unsafe { argument.cast::<T>().read() })
    }
}

/// Answers until the thread has ended.
fn supervise(listener: &OwnedFd, nth: u32, errno: Errno) -> Result<(u32, Option<&'static str>)> {
    let (mut calls, mut failed) = (0, None);
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut ready, None)?;
        if !ready[0].revents().contains(PollFlags::IN) {
            return Ok((calls, failed));
        }
        // SAFETY: see `Exchange`.
        let notice = unsafe { ioctl(listener, Exchange(RECEIVE, Notice::default())) }?;
        calls += 1;
        let mut answer = Answer { id: notice.id, value: 0, error: 0, flags: FLAG_CONTINUE };
        if calls == nth {
            let number = u32::try_from(notice.number)?;
            let known = NUMBERS.others.iter().find(|&&(other, _)| other == number);
            failed = Some(known.map_or("mmap", |&(_, name)| name));
            (answer.error, answer.flags) = (-errno.raw_os_error(), 0);
        }
        // SAFETY: as above.
        unsafe { ioctl(listener, Exchange(SEND, answer)) }?;
    }
}
