//! The worker's sessions, of which none is ever closed while it leaks.

/// The machine's smallest page: touching one byte of each makes all of it resident.
const STRIDE: usize = 4_096;

/// Memory that is held.
#[derive(Default)]
pub(super) struct Sessions {
    open: Vec<Box<[u8]>>,
    bytes: u64,
}

impl Sessions {
    /// Opens one of this size and writes to all of it.
    pub(super) fn open(&mut self, bytes: usize) {
        let mut session = vec![0_u8; bytes].into_boxed_slice();
        session.iter_mut().step_by(STRIDE).for_each(|byte| *byte = 1);
        self.bytes += session.len() as u64;
        self.open.push(session);
    }

    /// What all of them hold.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks through all of them for one that has ended; how many did not.
    pub(super) fn sweep(&self) -> usize {
        let is_live = |session: &[u8]| session.iter().step_by(STRIDE).all(|byte| *byte != 0);
        self.open.iter().filter(|session| is_live(session)).count()
    }
}
