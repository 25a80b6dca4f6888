//! A program that decides on system calls, as seccomp takes it: `linux/filter.h`.

/// `struct sock_filter`
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) value: u32,
}

/// `struct sock_fprog`
#[repr(C)]
pub(crate) struct Program {
    pub(crate) len: u16,
    pub(crate) instructions: *const Instruction,
}
