//! A stand-in for the CPU's instructions, which tells what it is asked for.

use std::cell::RefCell;

use super::Instructions;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Clean(usize),
    CleanAndDrop(usize),
    Complete,
    Order,
}

/// What a stand-in does with a step.
trait Take {
    fn take(&mut self, step: Step);
}

impl<T: Take> Instructions for T {
    fn clean(&mut self, addr: usize) {
        self.take(Step::Clean(addr));
    }

    fn clean_and_drop(&mut self, addr: usize) {
        self.take(Step::CleanAndDrop(addr));
    }

    fn complete(&mut self) {
        self.take(Step::Complete);
    }

    fn order(&mut self) {
        self.take(Step::Order);
    }
}

impl Take for Vec<Step> {
    fn take(&mut self, step: Step) {
        self.push(step);
    }
}

type Watcher = Box<dyn FnMut(Step)>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Where this machine has no such instructions, one that has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu(());

impl Cpu {
    /// What this CPU can do.
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(crate) fn recording() -> Self {
        Self(())
    }

    pub(crate) fn line(self) -> usize {
        64
    }
}

impl Take for Cpu {
    fn take(&mut self, step: Step) {
        WATCHER.with_borrow_mut(|watcher| watcher.as_mut().map(|watcher| watcher(step)));
    }
}

/// What `act` gives; meanwhile, `watcher` is called at each step of this thread.
pub(crate) fn record<R>(watcher: impl FnMut(Step) + 'static, act: impl FnOnce() -> R) -> R {
    WATCHER.set(Some(Box::new(watcher)));
    let result = act();
    WATCHER.set(None);
    result
}
