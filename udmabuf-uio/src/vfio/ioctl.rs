//! The ioctls of VFIO: numbers and structures of the kernel's
//! `include/uapi/linux/vfio.h`.
#![allow(unsafe_code, reason = "the one place where VFIO's ioctls are made")]

use std::{
    ffi::{CStr, c_void},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    io::{Errno, Result},
    ioctl::{self, Ioctl, IoctlOutput, Opcode, opcode},
};

const TYPE: u8 = b';';
const SET_IOMMU: Opcode = opcode::none(TYPE, 102);
const GROUP_GET_STATUS: Opcode = opcode::none(TYPE, 103);
const GROUP_SET_CONTAINER: Opcode = opcode::none(TYPE, 104);
const GROUP_GET_DEVICE_FD: Opcode = opcode::none(TYPE, 106);
const DEVICE_GET_REGION_INFO: Opcode = opcode::none(TYPE, 108);
const DEVICE_GET_IRQ_INFO: Opcode = opcode::none(TYPE, 109);
const DEVICE_SET_IRQS: Opcode = opcode::none(TYPE, 110);
const DEVICE_RESET: Opcode = opcode::none(TYPE, 111);

const GROUP_VIABLE: u32 = 1 << 0;
const REGION_MMAP: u32 = 1 << 2;
const IRQ_NONE: u32 = 1 << 0;
const IRQ_EVENTFD: u32 = 1 << 2;
const IRQ_MASK: u32 = 1 << 3;
const IRQ_UNMASK: u32 = 1 << 4;
const IRQ_TRIGGER: u32 = 1 << 5;

/// What stands between the devices of a container and memory.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum Iommu {
    Type1V2 = 3,
    None = 8,
}

/// Region number of the configuration space; those below 6 are the BARs.
pub(super) const CONFIG: u32 = 7;

/// Which interrupts of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Irq {
    Intx = 0,
    Msi = 1,
    MsiX = 2,
    /// The kernel would like to have the device back.
    Request = 4,
}

/// Where a region is in the device's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) can_be_mapped: bool,
}

#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

#[repr(C)]
struct RegionInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

#[repr(C)]
struct IrqInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    count: u32,
}

/// With room for one descriptor, which a call that brings none leaves out.
#[repr(C)]
struct IrqSet {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    fd: RawFd,
}

const IRQ_SET_LEN: u32 = 20;

/// A call with its argument, a number or an address; it returns a number.
struct Call {
    opcode: Opcode,
    argument: *mut c_void,
}

// SAFETY: the opcode and the argument are the pair that the caller of `call`
// vouches for; the output is the system call's own.
unsafe impl Ioctl for Call {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<i32> {
        Ok(output)
    }
}

/// # Safety
/// The command takes this argument: a number, or the address of a structure that
/// it may access as its kind says.
unsafe fn call(fd: BorrowedFd<'_>, opcode: Opcode, argument: *mut c_void) -> Result<i32> {
    // SAFETY: the caller's promise.
    unsafe { ioctl::ioctl(fd, Call { opcode, argument }) }
}

/// Calls with a structure, which begins with its own size.
fn with<T>(fd: BorrowedFd<'_>, opcode: Opcode, value: &mut T) -> Result<i32> {
    // SAFETY: each caller below pairs the command with its structure, in which
    // any bytes are a value, and says no more than its size in `argsz`.
    unsafe { call(fd, opcode, std::ptr::from_mut(value).cast()) }
}

const fn len_of<T>() -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "structures of some bytes")]
    let len = size_of::<T>() as u32;
    len
}

/// Whether all devices of the group are for userspace, or for nobody.
pub(super) fn is_viable(group: BorrowedFd<'_>) -> Result<bool> {
    let mut status = GroupStatus { argsz: len_of::<GroupStatus>(), flags: 0 };
    with(group, GROUP_GET_STATUS, &mut status)?;
    Ok(status.flags & GROUP_VIABLE != 0)
}

pub(super) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<()> {
    with(group, GROUP_SET_CONTAINER, &mut container.as_raw_fd()).map(drop)
}

pub(super) fn set_iommu(container: BorrowedFd<'_>, iommu: Iommu) -> Result<()> {
    let number = std::ptr::without_provenance_mut(iommu as usize);
    // SAFETY: the command takes a number.
    unsafe { call(container, SET_IOMMU, number) }.map(drop)
}

pub(super) fn device(group: BorrowedFd<'_>, address: &CStr) -> Result<OwnedFd> {
    let name = address.as_ptr().cast_mut().cast();
    // SAFETY: the command reads a string, up to its NUL.
    let fd = unsafe { call(group, GROUP_GET_DEVICE_FD, name) }?;
    // SAFETY: the call succeeded, so the kernel has just put this descriptor
    // into the table, for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn region(device: BorrowedFd<'_>, index: u32) -> Result<Region> {
    let argsz = len_of::<RegionInfo>();
    let mut info = RegionInfo { argsz, flags: 0, index, cap_offset: 0, size: 0, offset: 0 };
    with(device, DEVICE_GET_REGION_INFO, &mut info)?;
    let can_be_mapped = info.flags & REGION_MMAP != 0;
    Ok(Region { offset: info.offset, size: info.size, can_be_mapped })
}

/// How many interrupts of this kind the device has.
pub(super) fn irqs(device: BorrowedFd<'_>, irq: Irq) -> Result<u32> {
    let index = irq as u32;
    let mut info = IrqInfo { argsz: len_of::<IrqInfo>(), flags: 0, index, count: 0 };
    match with(device, DEVICE_GET_IRQ_INFO, &mut info) {
        Ok(_) => Ok(info.count),
        Err(Errno::INVAL) => Ok(0), // the kernel does not know the kind
        Err(errno) => Err(errno),
    }
}

/// Has the first interrupt of the kind counted by `event`.
pub(super) fn trigger(device: BorrowedFd<'_>, irq: Irq, event: BorrowedFd<'_>) -> Result<()> {
    let (argsz, flags) = (len_of::<IrqSet>(), IRQ_EVENTFD | IRQ_TRIGGER);
    let (index, fd) = (irq as u32, event.as_raw_fd());
    let mut set = IrqSet { argsz, flags, index, start: 0, count: 1, fd };
    with(device, DEVICE_SET_IRQS, &mut set).map(drop)
}

pub(super) fn set_masked(device: BorrowedFd<'_>, irq: Irq, masked: bool) -> Result<()> {
    let flags = IRQ_NONE | if masked { IRQ_MASK } else { IRQ_UNMASK };
    let (argsz, index) = (IRQ_SET_LEN, irq as u32);
    let mut set = IrqSet { argsz, flags, index, start: 0, count: 1, fd: -1 };
    with(device, DEVICE_SET_IRQS, &mut set).map(drop)
}

pub(super) fn reset(device: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the command takes nothing.
    unsafe { call(device, DEVICE_RESET, std::ptr::null_mut()) }.map(drop)
}
