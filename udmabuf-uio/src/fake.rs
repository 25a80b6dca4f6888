//! Devices from files, as a kernel could describe them: what is hard to find in
//! real life. The registers and the configuration space are files as well.
#![allow(unsafe_code, reason = "maps files, in which there is no harm")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{By, Error, Pci, Uio, devices, sysfs::Roots};

crate::block! {
    struct Regs: 0x100 bytes {
        0x00 => FIRST: ReadWrite<u32>,
        0xfc => LAST: ReadWrite<u32>,
    }
}

struct Fake(PathBuf);

impl Fake {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("udmabuf-uio-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("dev")).unwrap();
        Self(root)
    }

    fn roots(&self) -> Roots {
        Roots { sys: self.0.join("sys"), dev: self.0.join("dev") }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.0.join(target), path).unwrap();
    }

    /// A device with nothing but a name.
    fn uio(&self, number: usize, name: &str) {
        self.write(&format!("sys/class/uio/uio{number}/name"), format!("{name}\n"));
        self.write(&format!("sys/class/uio/uio{number}/event"), "0\n");
        // Byte n of page p is n + p.
        let page = |p: u8| {
            (0..rustix::param::page_size())
                .zip((0..=255).cycle())
                .map(move |(_, n)| p.wrapping_add(n))
        };
        self.write(&format!("dev/uio{number}"), (0..4).flat_map(page).collect::<Vec<u8>>());
    }

    fn map(&self, uio: usize, map: usize, [name, addr, offset, size]: [&str; 4]) {
        let dir = format!("sys/class/uio/uio{uio}/maps/map{map}");
        for (file, text) in [("name", name), ("addr", addr), ("offset", offset), ("size", size)] {
            self.write(&format!("{dir}/{file}"), format!("{text}\n"));
        }
    }

    fn open(&self, by: By<'_>) -> Result<Uio, Error> {
        Uio::open_in(&self.roots(), by)
    }

    fn registers<'a>(
        &self,
        name: &str,
        map: impl Into<crate::MapId<'a>>,
    ) -> Result<crate::Registers<Regs>, Error> {
        // SAFETY: a file is no device.
        unsafe { self.open(By::Name(name))?.registers(map) }
    }

    /// A function bound to `uio_pci_generic` as device `uio9`.
    fn pci(&self, driver: &str, resource: &str) -> PathBuf {
        let dir = "sys/devices/pci0000:00/0000:00:02.0";
        self.write(&format!("{dir}/vendor"), "0x1234\n");
        self.write(&format!("{dir}/device"), "0x11e8\n");
        self.write(&format!("{dir}/resource"), resource);
        self.write(&format!("{dir}/resource0"), [0x11; 0x2000]);
        self.link(&format!("{dir}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        self.link(&format!("{dir}/subsystem"), "sys/bus/pci");
        fs::create_dir_all(self.0.join(dir).join("uio/uio9")).unwrap();
        self.link("sys/bus/pci/devices/0000:00:02.0", dir);
        fs::create_dir_all(self.0.join("sys/bus/pci/drivers").join(driver)).unwrap();
        self.uio(9, "uio_pci_generic");
        self.link("sys/class/uio/uio9/device", dir);
        let mut config = [0; 64];
        config[4..6].copy_from_slice(&0x0007_u16.to_le_bytes());
        self.write(&format!("{dir}/config"), config)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn command(config: &Path) -> u16 {
    let bytes = fs::read(config).unwrap();
    u16::from_le_bytes([bytes[4], bytes[5]])
}

#[test]
fn a_device_is_found_by_what_is_known_of_it() {
    let fake = Fake::new();
    for number in [0, 2, 10] {
        fake.uio(number, &format!("device{number}"));
    }
    fake.map(2, 0, ["control", "0x00000000a0010000", "0x40", "0x1000"]);
    fake.map(10, 0, ["", "0xa0010000", "0x0", "0x1000"]);
    fake.map(10, 1, ["ring", "0xffffffffffffffff", "0x1", "0x1000"]);
    let node = "sys/firmware/devicetree/base/axi/adder@a0010040";
    fake.write(&format!("{node}/compatible"), b"acme,adder-1.1\0acme,adder\0");
    fs::create_dir_all(fake.0.join("sys/devices/platform/adder")).unwrap();
    fake.link("sys/devices/platform/adder/of_node", node);
    fake.link("sys/class/uio/uio2/device", "sys/devices/platform/adder");

    for (by, file) in [
        (By::from("device10"), "uio10"),
        (By::Name("device2"), "uio2"),
        (By::MapName("ring"), "uio10"),
        (By::Address(0xa001_0040), "uio2"),
        (By::Address(0xa001_0000), "uio10"),
        (By::TreePath("/axi/adder@a0010040"), "uio2"),
        (By::Compatible("acme,adder"), "uio2"),
        (By::Compatible("acme,adder-1.1"), "uio2"),
    ] {
        assert_eq!(fake.open(by).unwrap().device().file, file, "{by}");
    }
    for by in [
        By::Name("device"),
        By::MapName("map"),
        By::Address(0),
        By::TreePath("/axi"),
        By::Compatible("acme,adder-1.1\0acme,adder"),
    ] {
        let error = fake.open(by).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        let said = error.to_string();
        let all = "uio0 (device0), uio2 (device2; map 0 \"control\" of 0xfc0 bytes at \
                   0xa0010040; /axi/adder@a0010040 of the device tree; compatible with \
                   acme,adder-1.1, acme,adder), uio10 (device10; ";
        assert!(said.contains(all), "{said}");
    }
    let devices = devices::list(&fake.roots()).unwrap();
    assert_eq!(devices[1].compatible, ["acme,adder-1.1", "acme,adder"]);
    assert_eq!(devices[1].pci, None);
}

#[test]
fn without_any_device_the_error_says_what_to_load() {
    let said = Fake::new().open(By::Name("dma")).unwrap_err().to_string();
    assert!(said.contains("uio_pdrv_genirq"), "{said}");
}

#[test]
fn two_drivers_do_not_get_one_device() {
    let fake = Fake::new();
    fake.uio(0, "dma");
    let first = fake.open(By::Name("dma")).unwrap();
    assert!(matches!(fake.open(By::Name("dma")), Err(Error::Busy { .. })));
    fake.uio(1, "dma");
    assert_eq!(fake.open(By::Name("dma")).unwrap().device().file, "uio1");
    // Its registers keep it, too.
    fake.map(0, 0, ["", "0x1000", "0", "0x1000"]);
    drop(first);
    let registers = fake.registers("dma", 0).unwrap();
    assert_eq!(fake.open(By::Name("dma")).unwrap().device().file, "uio1");
    drop(registers);
    assert_eq!(fake.open(By::Name("dma")).unwrap().device().file, "uio0");
}

#[test]
fn a_map_is_a_page_of_the_file_and_starts_at_its_offset() {
    let fake = Fake::new();
    fake.uio(0, "dma");
    fake.map(0, 0, ["control", "0x1000", "0x0", "0x100"]);
    fake.map(0, 2, ["ring", "0x5000", "0x10", "0x110"]);
    let word = |first: u8| u32::from_le_bytes([0, 1, 2, 3].map(|n| first.wrapping_add(n)));
    let control = fake.registers("dma", 0).unwrap();
    assert_eq!((control.read(Regs::FIRST), control.read(Regs::LAST)), (word(0), word(0xfc)));
    drop(control);
    let ring = fake.registers("dma", "ring").unwrap();
    assert_eq!((ring.read(Regs::FIRST), ring.read(Regs::LAST)), (word(0x12), word(0x0e)));
}

#[test]
fn the_file_is_numbered_by_pages_of_any_size() {
    for (page, offset) in [(4 << 10, 0x2000), (16 << 10, 0x8000), (64 << 10, 0x2_0000)] {
        assert_eq!(crate::uio::file_offset(2, page), offset);
    }
}

#[test]
fn maps_that_do_not_hold_the_block_are_refused() {
    let fake = Fake::new();
    fake.uio(0, "dma");
    let maps = fake.0.join("sys/class/uio/uio0/maps");
    let refused = |map: usize, expected: &str| {
        let error = fake.registers("dma", map).unwrap_err();
        assert!(matches!(error, Error::NoRegisters { wanted: 0x100, .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(0, "it has no maps");
    fake.map(0, 0, ["small", "0x1000", "0x0", "0xff"]);
    refused(0, "map 0 \"small\" of 0xff bytes");
    // Large enough, but the registers do not start at its start.
    fake.map(0, 0, ["late", "0x1000", "0x10", "0x100"]);
    refused(0, "of 0xf0 bytes at 0x1010");
    fake.map(0, 0, ["none", "0x1000", "0x200", "0x100"]);
    refused(0, "of 0x0 bytes");
    fake.map(0, 0, ["wraps", "0x1000", "0xfffffffffffffff8", "0xffffffffffffffff"]);
    refused(0, "of 0x7 bytes");
    refused(1, "it has map 0 \"wraps\"");
    // What is no number is no map.
    for text in ["zero", "", "+5", "0x+5", "-0", "0x"] {
        fake.map(0, 0, ["odd", "0x1000", text, "0x100"]);
        refused(0, "it has no maps");
    }
    fake.map(0, 0, ["odd", "0x1000", "0", "0x80"]);
    fs::rename(maps.join("map0"), maps.join("map+0")).unwrap();
    fake.map(0, 1, ["", "0x1000", "0", "0x80"]);
    refused(0, "it has map 1");
    fs::rename(maps.join("map+0"), maps.join("map0")).unwrap();
    // A map whose registers are not aligned as they need to be.
    fake.map(0, 0, ["odd", "0x1000", "0x4", "0x1000"]);
    let error = fake.registers("dma", 0).unwrap_err();
    assert!(matches!(error, Error::Os { .. }), "{error}");
}

#[test]
fn a_number_that_became_another_device_s_is_not_opened() {
    let fake = Fake::new();
    fake.uio(0, "dma");
    fake.map(0, 0, ["regs", "0xa0000000", "0x0", "0x1000"]);
    let described = || devices::list(&fake.roots()).unwrap().remove(0);
    let opened = |device| Uio::open_device(&fake.roots(), device);
    let before = described();
    opened(before.clone()).unwrap();
    fake.map(0, 0, ["regs", "0xa0010000", "0x0", "0x1000"]);
    let error = opened(before).unwrap_err();
    assert!(matches!(error, Error::Removed { .. }) && error.to_string().contains("dma"), "{error}");
    let before = described();
    fake.uio(0, "camera");
    let error = opened(before.clone()).unwrap_err();
    assert!(matches!(error, Error::Removed { .. }), "{error}");
    fs::remove_dir_all(&before.dir).unwrap();
    let error = opened(before).unwrap_err();
    assert!(matches!(error, Error::Removed { .. }), "{error}");
}

#[test]
fn ports_are_refused_with_a_word_of_why() {
    let fake = Fake::new();
    fake.uio(0, "serial");
    fake.write("sys/class/uio/uio0/portio/port0/start", "0x3f8\n");
    fake.write("sys/class/uio/uio0/portio/port0/size", "0x8\n");
    let error = fake.registers("serial", 0).unwrap_err().to_string();
    assert!(error.contains("8 I/O ports from 0x3f8, which cannot be mapped"), "{error}");
}

const MEMORY: &str = "0x00000000fe000000 0x00000000fe001fff 0x0000000000040200\n";

#[test]
fn a_pci_device_is_translated_if_its_group_is() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    let is_translated =
        || Pci::open_in(&fake.roots(), "edu", |_| true).unwrap().device().is_translated();
    assert!(!is_translated(), "there is no IOMMU");
    let group = "sys/bus/pci/devices/0000:00:02.0/iommu_group";
    for (kind, expected) in
        [("DMA", true), ("DMA-FQ", true), ("blocked", true), ("identity", false)]
    {
        fake.write(&format!("{group}/type"), format!("{kind}\n"));
        assert_eq!(is_translated(), expected, "{kind}");
    }
    fake.write(&format!("{group}/type"), "unknown\n");
    assert!(is_translated(), "not known to be none");
    fake.write(&format!("{group}/name"), "vfio-noiommu\n");
    assert!(!is_translated(), "vfio-pci's own group");
    // What cannot be read decides nothing.
    let kind = config.with_file_name("iommu_group").join("type");
    fs::remove_file(&kind).unwrap();
    fs::create_dir(&kind).unwrap();
    let error = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap_err().to_string();
    assert!(error.contains("0000:00:02.0"), "{error}");
}

#[test]
fn a_pci_device_is_found_and_its_command_register_restored() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    let by_id = |it: &crate::PciDevice| (it.vendor, it.device) == (0x1234, 0x11e8);
    let pci = Pci::open_in(&fake.roots(), "edu", by_id).unwrap();
    assert_eq!(pci.device().address, "0000:00:02.0");
    let devices = devices::list(&fake.roots()).unwrap();
    assert_eq!(devices[0].pci.as_deref(), Some("0000:00:02.0"));
    // Through PCI or through UIO, it is one device with one driver.
    let again = Pci::open_in(&fake.roots(), "edu", by_id);
    assert!(matches!(again, Err(Error::Busy { .. })), "{again:?}");
    let again = fake.open(By::Name("uio_pci_generic"));
    assert!(matches!(again, Err(Error::Busy { .. })), "{again:?}");

    drop(pci);
    // It is locked before its UIO device is opened, which acts on it when closed.
    let resource = fs::File::open(config.with_file_name("resource0")).unwrap();
    rustix::fs::flock(&resource, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let again = fake.open(By::Name("uio_pci_generic"));
    assert!(matches!(again, Err(Error::Busy { .. })), "{again:?}");
    drop(resource);

    let pci = Pci::open_in(&fake.roots(), "edu", by_id).unwrap();
    let bus_master = pci.bus_master().unwrap();
    assert_eq!(command(&config), 0x0003);
    // SAFETY: a file accesses no memory.
    unsafe { bus_master.allow().unwrap() };
    assert_eq!(command(&config), 0x0007);
    // SAFETY: a file is no device.
    let registers = unsafe { pci.registers::<Regs>(0).unwrap() };
    assert_eq!(registers.read(Regs::LAST), 0x1111_1111);
    let mut interrupt = pci.into_interrupt().unwrap();
    let armed = interrupt.arm().unwrap();
    assert_eq!(command(&config), 0x0007);
    drop(armed);
    assert_eq!(command(&config), 0x0407);
    drop(bus_master);
    assert_eq!(command(&config), 0x0403);
    drop(interrupt);
    assert_eq!(command(&config), 0x0003, "as found, but without bus mastering");
    drop(registers);

    // Its interrupt is masked in the same place, whichever way it is opened.
    let mut interrupt = fake.open(By::Name("uio_pci_generic")).unwrap().into_interrupt().unwrap();
    assert_eq!(command(&config), 0x0403);
    let armed = interrupt.arm().unwrap();
    assert_eq!(command(&config), 0x0003);
    drop(armed);
}

#[test]
fn bars_that_do_not_hold_the_block_are_refused() {
    let fake = Fake::new();
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let ports = "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n";
    let small = "0x00000000fe000000 0x00000000fe0000fe 0x0000000000040200\n";
    fake.pci("uio_pci_generic", &[none, ports, small].concat());
    let pci = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap();
    for (bar, expected) in [
        (0, "it has BAR 1 of 0x20 ports, BAR 2 of 0xff bytes"),
        (1, "I/O ports, which cannot be mapped"),
        (2, "it has 0xff bytes"),
        (6, "it has BAR 1"),
    ] {
        // SAFETY: a file is no device.
        let error = unsafe { pci.registers::<Regs>(bar) }.unwrap_err();
        assert!(matches!(error, Error::NoRegisters { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn what_is_on_the_bus_is_in_the_error() {
    let fake = Fake::new();
    fake.pci("e1000", MEMORY);
    let error = Pci::open_in(&fake.roots(), "10ee:7021", |it| it.vendor == 0x10ee).unwrap_err();
    assert!(error.to_string().contains("there is: 0000:00:02.0 (1234:11e8, e1000)"), "{error}");
    let error = Pci::open_in(&fake.roots(), "1234:11e8", |_| true).unwrap_err();
    assert!(error.to_string().contains("echo 1234 11e8 > /sys/bus/pci/drivers"), "{error}");
}

#[test]
fn a_function_of_which_sysfs_says_too_little_is_not_there() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    fs::remove_file(config.with_file_name("resource")).unwrap();
    let error = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
fn a_device_that_cannot_be_locked_is_not_opened() {
    let fake = Fake::new();
    fake.uio(0, "dma");
    fake.write("sys/class/uio/uio0/device", "what is no directory cannot be listed");
    let error = fake.open(By::Name("dma")).unwrap_err();
    assert!(matches!(error, Error::Os { .. }), "{error}");
}

#[test]
fn what_a_device_or_its_kernel_driver_lacks_is_named() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    let pci = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap();
    let error = pci.reset().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let reset = config.with_file_name("reset");
    fs::write(&reset, "").unwrap();
    pci.reset().unwrap();
    assert_eq!(fs::read(reset).unwrap(), b"1");
    let error = pci.into_message_interrupt().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("bind the device to vfio-pci"), "{error}");
}

#[test]
fn a_device_that_does_not_answer_is_removed() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    let pci = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap();
    let bus_master = pci.bus_master().unwrap();
    fake.write("dev/uio9", ""); // no interrupt
    let mut interrupt = pci.into_interrupt().unwrap();
    let mut armed = interrupt.arm().unwrap();
    assert_eq!(armed.try_wait().unwrap(), 0);
    // What vfio-pci shows of a card that is out: its command register is partly,
    // and its vendor's number wholly, what was there before.
    let mut vfios = [0xff; 64];
    vfios[..2].fill(0x34);
    vfios[5] = 0xfb;
    fs::write(&config, vfios).unwrap();
    assert!(matches!(armed.try_wait(), Err(Error::Removed { .. })));
    fs::write(&config, [0xff; 64]).unwrap();
    let said = [bus_master.forbid().unwrap_err(), armed.try_wait().unwrap_err()];
    drop(armed);
    for error in said.into_iter().chain([interrupt.check().unwrap_err()]) {
        assert!(matches!(error, Error::Removed { .. }), "{error}");
    }
}

#[test]
fn what_no_wait_ended_for_is_counted() {
    let fake = Fake::new();
    fake.pci("uio_pci_generic", MEMORY);
    let pci = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap();
    // The kernel's count, at each read.
    let counts: Vec<u8> = [7_u32, 8, 11, 11].into_iter().flat_map(u32::to_ne_bytes).collect();
    fake.write("dev/uio9", counts);
    let mut interrupt = pci.into_interrupt().unwrap();
    for (count, missed) in [(1, 0), (3, 2), (0, 2)] {
        assert_eq!(interrupt.arm().unwrap().try_wait().unwrap(), count);
        assert_eq!(interrupt.missed(), missed);
    }
}

#[test]
fn registers_of_a_removed_device_read_as_all_ones() {
    let fake = Fake::new();
    let config = fake.pci("uio_pci_generic", MEMORY);
    let pci = Pci::open_in(&fake.roots(), "edu", |_| true).unwrap();
    // SAFETY: a file is no device.
    let registers = unsafe { pci.registers::<Regs>(0).unwrap() };
    let bus_master = pci.bus_master().unwrap();
    // The registers are truncated away, under which access is SIGBUS.
    fs::write(config.with_file_name("resource0"), "").unwrap();
    fs::write(&config, "").unwrap();
    fs::remove_dir_all(fake.0.join("sys/class/uio/uio9")).unwrap();
    let error = bus_master.forbid().unwrap_err();
    assert!(matches!(error, Error::Removed { .. }), "{error}");
    assert_eq!(registers.read(Regs::FIRST), u32::MAX);
    registers.write(Regs::LAST, 0);
}
