//! Makes one system call of a thread fail, or do less than it was asked: the kernel
//! asks this process about each (`seccomp_unotify(2)`), and is told to go on, or what
//! to answer.
#![allow(unsafe_code, reason = "system calls that no crate has: seccomp and its ioctls")]

use std::{
    ffi::{c_long, c_void},
    fmt,
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
    /// Those that open, ask about, copy, lock and wait, in their older forms, too, by
    /// name. Not those that give something back: nobody could try again.
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
        (62, "lseek"),
        (25, "fcntl"),
        (79, "newfstatat"),
        (80, "fstat"),
        (291, "statx"),
        (19, "eventfd2"),
        (20, "epoll_create1"),
        (21, "epoll_ctl"),
        (22, "epoll_pwait"),
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
        (8, "lseek"),
        (72, "fcntl"),
        (262, "newfstatat"),
        (5, "fstat"),
        (332, "statx"),
        (290, "eventfd2"),
        (291, "epoll_create1"),
        (233, "epoll_ctl"),
        (232, "epoll_wait"),
        (281, "epoll_pwait"),
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
        (19, "lseek"),
        (140, "_llseek"),
        (221, "fcntl64"),
        (327, "fstatat64"),
        (197, "fstat64"),
        (397, "statx"),
        (356, "eventfd2"),
        (357, "epoll_create1"),
        (251, "epoll_ctl"),
        (252, "epoll_wait"),
        (346, "epoll_pwait"),
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

/// What happens to a call.
#[derive(Clone, Copy)]
pub(super) enum How {
    Fails(Errno),
    /// Of the bytes that were asked for, one is read or written. Who wants a device to
    /// be told whole words is refused then, which is no answer of this kind.
    Short,
}

/// What happened to the thread.
pub(super) struct Outcome<T> {
    pub(super) result: T,
    /// How many system calls it made of those that can fail.
    pub(super) calls: u32,
    /// The name of the one that failed.
    pub(super) failed: Option<&'static str>,
}

/// Runs `what` on a thread to whose system call number `nth`, of those to which it
/// can, this happens.
pub(super) fn run<T: Send>(
    nth: u32,
    how: How,
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
        let (calls, failed) = supervise(&listener, nth, how)?;
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

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails(errno) => write!(f, "error {}", errno.raw_os_error()),
            Self::Short => f.write_str("one byte"),
        }
    }
}

impl How {
    fn is_about(self, name: &str, notice: &Notice) -> bool {
        let is_of_bytes = matches!(name, "read" | "write" | "pread64" | "pwrite64");
        matches!(self, Self::Fails(_)) || is_of_bytes && notice.arguments[2] > 1
    }
}

/// One byte, read or written by the thread that answers; `None` where that is an error.
fn one_byte(notice: &Notice) -> Option<i64> {
    let argument = |at: usize| notice.arguments[at] as c_long;
    // SAFETY: less than what a thread of this process, which waits for the answer, has
    // asked for with these arguments.
    let done = unsafe {
        syscall(
            notice.number.into(),
            argument(0),
            argument(1),
            1 as c_long,
            argument(3),
            argument(4),
            argument(5),
        )
    };
    (done == 1).then_some(1)
}

/// Answers until the thread has ended.
fn supervise(listener: &OwnedFd, nth: u32, how: How) -> Result<(u32, Option<&'static str>)> {
    let (mut calls, mut failed) = (0, None);
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut ready, None)?;
        if !ready[0].revents().contains(PollFlags::IN) {
            return Ok((calls, failed));
        }
        // SAFETY: see `Exchange`.
        let notice = unsafe { ioctl(listener, Exchange(RECEIVE, Notice::default())) }?;
        let mut answer = Answer { id: notice.id, value: 0, error: 0, flags: FLAG_CONTINUE };
        let number = u32::try_from(notice.number)?;
        let known = NUMBERS.others.iter().find(|&&(other, _)| other == number);
        let name = known.map_or("mmap", |&(_, name)| name);
        if failed.is_none() && how.is_about(name, &notice) {
            let answered = calls + 1 == nth;
            let given = match how {
                _ if !answered => None,
                How::Fails(errno) => Some((0, -errno.raw_os_error())),
                How::Short => one_byte(&notice).map(|done| (done, 0)),
            };
            if let Some((value, error)) = given {
                (answer.value, answer.error, answer.flags) = (value, error, 0);
                failed = Some(name);
            }
            // One that takes all or nothing: the next, then.
            calls += u32::from(!answered || failed.is_some());
        }
        // SAFETY: as above.
        unsafe { ioctl(listener, Exchange(SEND, answer)) }?;
    }
}
