//! Text for the manager: its grammar, cut and broken. Commands come in pieces and several
//! at a time, right and wrong.

use super::{
    grammar::{COMMAND_MAX, NAME_MAX, NO_MACHINE_HAS, SIZE_MAX},
    manager::Manager,
    random::Random,
};

impl Manager {
    fn names(&self) -> [String; 4] {
        let longest = "n".repeat(NAME_MAX - self.prefix.len());
        ["t0", "t1", "t=2%", longest.as_str()].map(|rest| format!("{}{rest}", self.prefix))
    }

    /// Texts for one file, one write each.
    pub(crate) fn texts(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut text = Vec::new();
        if random.one_in(12) {
            text.extend((0..random.index(1100)).map(|_| random.byte()));
        } else {
            for _ in 0..random.of(&[1, 1, 1, 2, 3, 5]) {
                text.extend(self.command(random).into_bytes());
                text.extend((0..1 + random.index(2)).map(|_| b"\n;\0"[random.index(3)]));
            }
            // Unfinished, for now.
            text.truncate(text.len() - if random.one_in(6) { random.index(8) } else { 0 });
        }
        if random.one_in(5) {
            // No digit: the sizes stay those of the grammar.
            let byte = b" \t\r\n;\0=+-/!.,%xz\x7f\xff"[random.index(18)];
            let at = random.index(text.len() + 1);
            match text.get_mut(at) {
                Some(place) if random.one_in(2) => *place = byte,
                Some(_) if random.one_in(2) => drop(text.remove(at)),
                _ => text.insert(at, byte),
            }
        }
        let mut texts = Vec::new();
        while random.one_in(2) && text.len() > 1 {
            let rest = text.split_off(1 + random.index(text.len() - 1));
            texts.push(std::mem::replace(&mut text, rest));
        }
        texts.push(text);
        texts.retain(|text| !text.is_empty());
        texts
    }

    fn command(&self, random: &mut Random) -> String {
        let blank = |random: &mut Random| random.of(&[" ", " ", " ", "  ", "\t", " \r "]);
        let some = self.names();
        let wrong =
            ["", ".", "a..b", "../x", "a/b", "a!b", "nobody", &"n".repeat(NAME_MAX + 1), "\u{e9}"];
        let own = &some[random.index(some.len())];
        let name = if random.one_in(8) { wrong[random.index(wrong.len())] } else { own };
        let mut words = match random.below(16) {
            0 => vec!["list".to_owned()],
            1 => {
                let wrong =
                    ["lists", "Create", "create", "delete", "list all", "create=x", "\u{7f}"];
                vec![wrong[random.index(wrong.len())].to_owned()]
            }
            2..7 => vec!["delete".to_owned(), name.to_owned()],
            _ => self.create(random, name),
        };
        if random.one_in(24) {
            words.push("more".to_owned());
        }
        let mut text = String::new();
        for word in words {
            text += &word;
            text += blank(random);
        }
        // Near the longest that there is.
        if random.one_in(16) {
            let len = COMMAND_MAX - 3 + random.index(6);
            text += &" ".repeat(len.saturating_sub(text.len()));
        }
        text
    }

    fn create(&self, random: &mut Random, name: &str) -> Vec<String> {
        let mut words = vec!["create".to_owned(), name.to_owned()];
        let size = 1 + random.below(SIZE_MAX);
        let size = match random.below(16) {
            0 => format!("{size:#x}"),
            1 => format!("0{size:o}"),
            2 => format!("+{size}"),
            3 => ["0", "-1", "ten", "08", "4096k", "0x", "", "99999999999999999999"]
                [random.index(8)]
            .to_owned(),
            4 => format!("{}", NO_MACHINE_HAS << random.below(24)),
            _ => format!("{size}"),
        };
        let mut options = Vec::new();
        match random.below(8) {
            0 => options.push(format!("size={size}")),
            1 => {
                words.push("123".to_owned());
                options.push(format!("size={size}"));
            }
            2 if random.one_in(3) => {}
            _ => words.push(size),
        }
        if random.one_in(4) {
            let bits = random.of(&["32", "40", "64", "0x40", "0", "11", "65", "x", "-1", ""]);
            options.push(format!("dma-mask={bits}"));
        } else if random.one_in(4) {
            let parent = self.parent.as_deref().unwrap_or("0000:ff:1f.7");
            let (bus, device) = match random.below(8) {
                0 => (Some("usb"), Some(parent)),
                1 => (Some("pci"), None),
                2 => (Some("platform"), Some("nobody")),
                3 => (None, Some(parent)),
                4 => (Some("pci"), Some("")),
                _ => (Some("pci"), Some(parent)),
            };
            options.extend(bus.map(|bus| format!("bus={bus}")));
            options.extend(device.map(|device| format!("device={device}")));
        }
        if random.one_in(2) {
            let quirk = random.of(&["on", "off", "auto", "page", "page", "", "o"]);
            options.push(format!("quirk-mmap-{quirk}"));
        }
        if random.one_in(16) {
            let other = ["nonsense", "size", "sizes=4096", "=", "bus=", "zero-between-users"];
            options.push(other[random.index(other.len())].to_owned());
        }
        for last in (1..options.len()).rev() {
            options.swap(last, random.index(last + 1));
        }
        words.extend(options);
        words
    }
}
