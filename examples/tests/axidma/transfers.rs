//! Packets of every size and shape, and every byte compared.

use std::thread;

use udmabuf::{Error as BufferError, StartError, WaitError, emulator::Emulator};
use udmabuf_examples::axidma::{AxiDma, Build, Error, Mode, Moved};
use udmabuf_uio::emulator::Faults;

use crate::bench::{BUILD, Bench, LONG, Random, SHORT, joined, late};

/// As long as a soak on a board is.
const TRANSFERS: usize = 10_000;

#[test]
fn direct_packets_of_random_lengths_come_back_whole() {
    let bench = Bench::new(Mode::Direct);
    let mut random = Random(0x1234_5678);
    for round in 0..TRANSFERS {
        let sent = match round {
            0 => random.bytes(1),
            1 => random.bytes(65535),
            _ => {
                let len = random.below(1..3000);
                random.bytes(len)
            }
        };
        let room = sent.len() + random.below(0..100).min(65535 - sent.len());
        let receiving = bench.dma.s2mm.receive(bench.sink(room)).unwrap();
        let sending = bench.dma.mm2s.send(bench.source(&sent)).unwrap();
        let received = receiving.wait(LONG).unwrap();
        sending.wait(LONG).unwrap();
        assert_eq!(bench.dma.s2mm.moved(), [Moved { len: sent.len(), ends: true }]);
        assert_eq!(received.as_slice()[..sent.len()], sent);
        assert!(received.as_slice()[sent.len()..].iter().all(|byte| *byte == 0));
    }
    assert!(bench.dma.mm2s.interrupts() > 0);
    bench.check();
}

/// Sends packets of random parts and receives them in parts of other sizes.
fn scatter_and_gather(emulator: Emulator, random: &mut Random, packets: usize) {
    let bench = Bench::on(emulator, BUILD, Mode::ScatterGather);
    let mut sent = 0;
    while sent < packets {
        // As many as 16 descriptors take on either side.
        let room = random.below(1..1500);
        let mut data: Vec<Vec<Vec<u8>>> = Vec::new();
        let (mut pieces, mut sinks) = (0, 0);
        for _ in 0..random.below(1..6) {
            let count = random.below(1..5);
            let packet: Vec<_> = (0..count)
                .map(|_| {
                    let len = random.below(1..900);
                    random.bytes(len)
                })
                .collect();
            let parts = packet.concat().len().div_ceil(room);
            if pieces + count > 16 || sinks + parts > 16 {
                break;
            }
            (pieces, sinks) = (pieces + count, sinks + parts);
            data.push(packet);
        }
        sent += data.len();
        if data.is_empty() {
            continue;
        }
        let parts = (0..sinks).map(|_| bench.sink(room)).collect();
        let source = |packet: &Vec<Vec<u8>>| packet.iter().map(|part| bench.source(part)).collect();
        let sources = data.iter().map(source).collect();
        let receiving = bench.dma.s2mm.receive_parts(parts).unwrap();
        let sending = bench.dma.mm2s.send_packets(sources).unwrap();
        let received = receiving.wait(LONG).unwrap();
        sending.wait(LONG).unwrap();

        let moved = bench.dma.s2mm.moved();
        let mut parts = received.iter().zip(&moved);
        for packet in data {
            let mut got = Vec::new();
            for (part, moved) in parts.by_ref() {
                got.extend_from_slice(&part.as_slice()[..moved.len]);
                assert!(part.as_slice()[moved.len..].iter().all(|byte| *byte == 0));
                if moved.ends {
                    break;
                }
            }
            assert_eq!(got, packet.concat());
        }
        assert!(parts.next().is_none(), "there are more parts than packets fill");
    }
    bench.check();
}

#[test]
fn packets_of_many_parts_under_many_adversaries() {
    for seed in 1..20 {
        let emulator = Emulator::new().with_adversary_seed(seed);
        scatter_and_gather(emulator, &mut Random(seed), 100);
    }
}

#[test]
fn a_soak_of_packets() {
    scatter_and_gather(Emulator::new().with_adversary(), &mut Random(42), TRANSFERS);
}

#[test]
fn the_channels_are_driven_from_two_threads() {
    let bench = Bench::new(Mode::ScatterGather);
    let data = |round: usize| Random(round as u64 + 1).bytes(1 + round * 37 % 5000);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..500 {
                let part = bench.source(&data(round));
                bench.dma.mm2s.send(part).unwrap().wait(LONG).unwrap();
            }
        });
        for round in 0..500 {
            let sent = data(round);
            let received = bench.dma.s2mm.receive(bench.sink(5000)).unwrap().wait(LONG).unwrap();
            assert_eq!(bench.dma.s2mm.moved(), [Moved { len: sent.len(), ends: true }]);
            assert_eq!(received.as_slice()[..sent.len()], sent, "packet {round}");
        }
    });
    bench.check();
}

#[test]
fn both_channels_are_awaited() {
    let bench = Bench::new(Mode::ScatterGather);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let receive = async {
            for round in 0..100 {
                let transfer = bench.dma.s2mm.receive(bench.sink(700)).unwrap();
                let received = transfer.await.unwrap();
                assert_eq!(received.as_slice()[..600], [round; 600]);
            }
        };
        let send = async {
            for round in 0..100 {
                bench.dma.mm2s.send(bench.source(&[round; 600])).unwrap().await.unwrap();
            }
        };
        let mut both = (std::pin::pin!(receive), std::pin::pin!(send), false);
        let done = std::future::poll_fn(|context| {
            both.2 |= !both.2 && both.1.as_mut().poll(context).is_ready();
            both.0.as_mut().poll(context)
        });
        tokio::time::timeout(LONG, done).await.unwrap();
    });
    assert!(bench.dma.s2mm.interrupts() > 0, "no interrupt has woken it");
    bench.check();
}

#[test]
fn a_packet_longer_than_its_parts_goes_on_in_the_next_transfer() {
    let bench = Bench::new(Mode::ScatterGather);
    let sent = Random(7).bytes(3000);
    let sending = bench.dma.mm2s.send(bench.source(&sent)).unwrap();
    let mut received = Vec::new();
    for (len, ends) in [(1000, false), (1500, false), (500, true)] {
        let part = bench.dma.s2mm.receive(bench.sink(len.max(1000))).unwrap().wait(LONG).unwrap();
        let moved = bench.dma.s2mm.moved()[0];
        assert_eq!(moved, Moved { len, ends });
        received.extend_from_slice(&part.as_slice()[..len]);
    }
    sending.wait(LONG).unwrap();
    assert_eq!(received, sent);
}

#[test]
fn a_slow_core_is_waited_for() {
    for mode in [Mode::Direct, Mode::ScatterGather] {
        let bench = Bench::new(mode);
        bench.controls.slow_down(50);
        bench.works();
        bench.faults.lose_interrupts(2);
        bench.works_within_another_wait();
        bench.check();
    }
}

impl Bench {
    /// As `works`, should the interrupts be lost.
    fn works_within_another_wait(&self) {
        let mut receiving = self.dma.s2mm.receive(self.sink(100)).unwrap();
        let mut sending = self.dma.mm2s.send(self.source(&[3; 100])).unwrap();
        loop {
            match sending.wait(SHORT) {
                Ok(_) => break,
                result => sending = late(result),
            }
        }
        loop {
            match receiving.wait(SHORT) {
                Ok(received) => return assert_eq!(received.as_slice(), [3; 100]),
                result => receiving = late(result),
            }
        }
    }
}

#[test]
fn a_core_with_64_address_bits() {
    for mode in [Mode::Direct, Mode::ScatterGather] {
        let build = Build { addr_bits: 64, ..BUILD };
        let bench = Bench::on(Emulator::new().with_adversary(), build, mode);
        bench.works();
        bench.works();
        bench.check();
    }
}

#[test]
fn what_the_core_cannot_do_is_refused() {
    let build = Build { length_bits: 8, realigns: false, data_bytes: 16, ..BUILD };
    let bench = Bench::on(Emulator::new().with_adversary(), build, Mode::ScatterGather);
    let long = bench.dma.mm2s.send(bench.source(&[1; 256])).unwrap_err();
    assert!(matches!(long.error, StartError::Refused(Error::TooLong { len: 256, max: 255 })));
    assert_eq!(long.value.as_slice(), [1; 256]);

    // A packet's last part need not be a multiple of the width; what is received need.
    let parts = |lens: [usize; 2]| vec![lens.map(|len| bench.source(&vec![1; len])).into()];
    let odd = bench.dma.mm2s.send_packets(parts([17, 16])).unwrap_err();
    let misaligned = |error: &StartError<Error>| {
        matches!(
            error,
            StartError::Refused(Error::Misaligned { what: "length", value: 17, align: 16 })
        )
    };
    assert!(misaligned(&odd.error), "{}", odd.error);
    let odd = bench.dma.s2mm.receive(bench.sink(17)).unwrap_err();
    assert!(misaligned(&odd.error), "{}", odd.error);
    let receiving = bench.dma.s2mm.receive_parts(vec![bench.sink(32), bench.sink(32)]).unwrap();
    bench.dma.mm2s.send_packets(parts([16, 17])).unwrap().wait(LONG).unwrap();
    receiving.wait(LONG).unwrap();
    assert_eq!(
        bench.dma.s2mm.moved(),
        [Moved { len: 32, ends: false }, Moved { len: 1, ends: true }]
    );

    let lines = bench.emulator.buffer(256).into_chunks(64).unwrap().into_iter();
    let wide = Build { data_bytes: 128, ..build };
    let wide = Bench::on(bench.emulator.clone(), wide, Mode::Direct);
    for (index, line) in lines.enumerate() {
        let line = line.for_direction().into_device().unwrap();
        let refused = wide.dma.mm2s.send(line).map(drop).map_err(|refused| refused.error);
        let is_misaligned = matches!(
            refused,
            Err(StartError::Refused(Error::Misaligned { what: "address", align: 128, .. }))
        );
        assert_eq!(is_misaligned, index % 2 == 1, "{refused:?}");
    }

    let many = (0..17).map(|_| bench.sink(16)).collect();
    let many = bench.dma.s2mm.receive_parts(many).unwrap_err();
    assert!(matches!(
        many.error,
        StartError::Refused(Error::TooFewDescriptors { parts: 17, descriptors: 16 })
    ));
    assert_eq!(joined(&many.value).len(), 17 * 16);
    let none = bench.dma.mm2s.send_packets::<udmabuf::Cached>(vec![vec![]]).unwrap_err();
    assert!(matches!(none.error, StartError::Refused(Error::Empty)));

    let receiving = bench.dma.s2mm.receive(bench.sink(16)).unwrap();
    let busy = bench.dma.s2mm.receive(bench.sink(16)).unwrap_err();
    assert!(matches!(busy.error, StartError::Busy(_)));
    drop(receiving);
    bench.check();
}

#[test]
fn a_direct_core_takes_one_part_and_no_descriptors() {
    let bench = Bench::new(Mode::Direct);
    let two = vec![bench.sink(16), bench.sink(16)];
    let two = bench.dma.s2mm.receive_parts(two).unwrap_err();
    assert!(matches!(two.error, StartError::Refused(Error::NoScatterGather(2))));
    let refused = bench.dma.s2mm.use_descriptors(bench.emulator.buffer(64)).unwrap_err();
    assert!(matches!(refused.error, Error::NoScatterGather(_)) && refused.value.is_some());
}

#[test]
fn memory_that_cannot_have_descriptors_comes_back() {
    let bench = Bench::new(Mode::ScatterGather);
    let fresh = || {
        let (emulator, faults) = (&bench.emulator, Faults::default());
        AxiDma::emulated_with(emulator, BUILD, Mode::ScatterGather, &bench.controls, &faults)
    };
    let mm2s = fresh().unwrap().mm2s;
    let none = mm2s.send(bench.source(&[1])).unwrap_err();
    assert!(matches!(none.error, StartError::Refused(Error::NoDescriptors(_))));
    let cached = mm2s.use_descriptors(bench.emulator.buffer(64)).unwrap_err();
    assert!(matches!(cached.error, Error::Buffer(BufferError::Unsupported { .. })));
    let small = bench.emulator.clone().coherent().buffer(63);
    let small = mm2s.use_descriptors(small).unwrap_err();
    assert!(matches!(small.error, Error::TooFewDescriptors { .. }), "{}", small.error);
    assert_eq!(small.value.unwrap().as_slice(), [0; 63]);
    let lines = bench.emulator.clone().coherent().with_cache_line(32).buffer(128);
    let misaligned = mm2s.use_descriptors(lines.split_at(32).unwrap().1).unwrap_err();
    assert!(matches!(misaligned.error, Error::Misaligned { align: 64, .. }));
    let stranger = mm2s.use_descriptors(Emulator::new().coherent().buffer(64)).unwrap_err();
    assert!(matches!(stranger.error, Error::Buffer(BufferError::Unsupported { .. })));
    // What was shared is free again with the core.
    let memory = bench.emulator.clone().coherent().buffer(64);
    mm2s.use_descriptors(memory).unwrap();
    let twice = mm2s.use_descriptors(bench.emulator.clone().coherent().buffer(64)).unwrap_err();
    assert!(matches!(twice.error, Error::Busy(_)));
    let Err(error) =
        AxiDma::emulated(&bench.emulator, Build { length_bits: 27, ..BUILD }, Mode::Direct)
    else {
        panic!("no core has 27 bits")
    };
    assert!(matches!(error, Error::Build { what: "length bits", value: 27 }));
}

#[test]
fn a_packet_longer_than_a_direct_buffer_is_an_error() {
    let bench = Bench::new(Mode::Direct);
    let receiving = bench.dma.s2mm.receive(bench.sink(100)).unwrap();
    let sending = bench.dma.mm2s.send(bench.source(&[1; 101])).unwrap();
    let Err(WaitError::Failed { error, buffers }) = receiving.wait(LONG) else {
        panic!("no error")
    };
    assert!(error.to_string().contains("DMAIntErr"), "{error}");
    assert_eq!(buffers.as_slice(), [1; 100]);
    sending.wait(LONG).unwrap();
    bench.works();
}
