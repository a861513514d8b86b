//! Budget of all templates that one event renders.

/// Maximum steps of all templates that one event renders.
const MAX_EVENT_STEPS: u64 = 200_000;
/// Maximum output of all templates that one event renders, in bytes.
pub(super) const MAX_EVENT_OUTPUT_BYTES: usize = 4 << 20;

/// Remaining steps and bytes for all templates of one event.
#[derive(Debug)]
pub struct EventTemplateBudget {
    steps: u64,
    bytes: usize,
}

impl EventTemplateBudget {
    /// Full budget for a new event.
    pub fn of_event() -> Self {
        Self { steps: MAX_EVENT_STEPS, bytes: MAX_EVENT_OUTPUT_BYTES }
    }

    /// Output so far, in bytes.
    pub fn spent_bytes(&self) -> usize {
        MAX_EVENT_OUTPUT_BYTES - self.bytes
    }

    /// Charges a template. A charge that exceeds the budget exhausts it.
    pub(super) fn pay(&mut self, steps: u64, bytes: usize) -> Result<(), String> {
        if steps < self.steps && bytes <= self.bytes {
            (self.steps, self.bytes) = (self.steps - steps, self.bytes - bytes);
            return Ok(());
        }
        self.steps = 0;
        self.check_exhausted()
    }

    pub(super) fn check_exhausted(&self) -> Result<(), String> {
        if self.steps > 0 {
            return Ok(());
        }
        Err(format!(
            "all templates of one event may take {MAX_EVENT_STEPS} steps and give {} MiB together",
            MAX_EVENT_OUTPUT_BYTES >> 20
        ))
    }
}
