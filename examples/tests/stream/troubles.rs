//! What breaks a stream off: the parts that no engine has are back, the others
//! stay with their engine, and nothing is written into what is back.

use udmabuf_examples::zdma::Zdma;

use super::*;

const SHORT: Duration = Duration::from_millis(20);

/// How an engine ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It stands still, when all parts are in flight.
    Stall,
    /// It is pulled out then.
    Unplug,
}

/// Streams until that, and looks what is left.
fn breaks_off<L: Lane>(mut lane: L, emulator: &Emulator, faults: &Faults, end: End) {
    const IN_FLIGHT: usize = 5;
    let depth = lane.depth();
    let mut parts = parts(emulator, 1024, IN_FLIGHT);
    // An engine that runs already is the one to start while it stands still.
    run(std::slice::from_mut(&mut lane), &mut parts, sending(5, 1), |_| ()).unwrap();
    faults.stall();
    let (started, at_first_block) = (Cell::new(0), Cell::new(None));
    let then = || {
        if end == End::Unplug {
            faults.unplug();
        }
    };
    let mut lanes =
        [Blocked { lane, started: &started, then: &then, at_first_block: &at_first_block }];
    let patience = if end == End::Stall { SHORT } else { Plan::default().patience };
    let plan = Plan { patience, ..sending(100, 1) };
    let result = run(&mut lanes, &mut parts, plan, |_| ());
    let is_told = match (end, &result) {
        (End::Stall, Err(error)) => matches!(error, Error::Timeout { number: 0, patience: SHORT }),
        (End::Unplug, Err(Error::Engine(error))) => error.to_string().contains("removed"),
        _ => false,
    };
    assert!(is_told, "{end:?}: {result:?}");
    assert_eq!(parts.len(), IN_FLIGHT - depth, "parts that no engine has");
    drop(lanes);
    faults.resume();
    assert_eq!(emulator.violations(), []);
}

#[test]
fn an_engine_that_stands_still_or_is_pulled_out_ends_a_stream() {
    for end in [End::Stall, End::Unplug] {
        let setup = || (Emulator::new().with_adversary(), Faults::default());

        let (emulator, faults) = setup();
        let engine = Loopback::emulated_with(&emulator, &faults).unwrap();
        let lane = Copying::new(|from, to| engine.copy(from, to));
        breaks_off(lane, &emulator, &faults, end);

        let (emulator, faults) = setup();
        let edu = Edu::emulated_with(&emulator, &faults).unwrap();
        breaks_off(EduLane::new(edu), &emulator, &faults, end);

        let (emulator, faults) = setup();
        let zdma = Zdma::emulated(&emulator, &faults).unwrap();
        zdma.set_patience(SHORT);
        let lane = Copying::new(|from, to| zdma.copy(from, to));
        breaks_off(lane, &emulator, &faults, end);

        let (emulator, faults) = setup();
        let controls = Controls::default();
        let core = AxiDma::emulated_with(&emulator, Build::LEAST, Mode::Direct, &controls, &faults);
        breaks_off(returning(&core.unwrap()), &emulator, &faults, end);

        let (emulator, faults) = setup();
        let (lane, _) = ringing(&emulator, &faults, 3);
        breaks_off(lane, &emulator, &faults, end);
    }
}

/// What waited behind the part that fails was never started.
#[test]
fn an_error_of_the_engine_gives_back_what_it_never_had() {
    let emulator = Emulator::new().with_adversary();
    let (controls, faults) = (Controls::default(), Faults::default());
    let core = AxiDma::emulated_with(&emulator, Build::LEAST, Mode::Direct, &controls, &faults);
    let core = core.unwrap();
    let mut parts = parts(&emulator, 1024, 5);
    run(&mut [returning(&core)], &mut parts, sending(5, 1), |_| ()).unwrap(); // it runs
    faults.stall();
    let then = || {
        controls.inject(Side::S2mm, axidma::Faults::DMA_SLAVE);
        faults.resume();
    };
    let (started, at_first_block) = (Cell::new(0), Cell::new(None));
    let lane = returning(&core);
    let lane = Blocked { lane, started: &started, then: &then, at_first_block: &at_first_block };
    let result = run(&mut [lane], &mut parts, sending(100, 2), |_| ());
    assert!(matches!(result, Err(Error::Engine(_))), "{result:?}");
    assert_eq!((parts.len(), started.get()), (4, 1));
    // The engine can be used again, and so can they.
    let summary = run(&mut [returning(&core)], &mut parts, sending(20, 3), |_| ()).unwrap();
    assert_eq!(summary.parts, 20);
}

/// Neither is lost of a part whose engine starts on nothing, or on half of it.
#[test]
fn a_start_that_is_refused_loses_no_other_part() {
    let (emulator, stranger) = (Emulator::new().with_adversary(), Emulator::new());
    let engine = Loopback::emulated(&stranger).unwrap();
    let lane = Copying::new(|from, to| engine.copy(from, to));
    let mut parts = parts(&emulator, 1024, 3);
    let result = run(&mut [lane], &mut parts, sending(100, 4), |_| ());
    assert!(matches!(result, Err(Error::Start(_))), "{result:?}");
    assert_eq!(parts.len(), 2);
}
