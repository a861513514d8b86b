//! Fault injection on request: faults of a question are drawn from the seed, the order and its
//! question count. Runs with the same seed and questions are equal, whatever their timing.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::seed::{DrawPurpose, Seed};

/// Moment of the callback (`--callback-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackMode {
    /// Before the question is answered.
    Before,
    /// After the question is answered.
    After,
    /// Concurrent with the answer: before, during or after it.
    Async,
}

impl FromStr for CallbackMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "before" => Ok(Self::Before),
            "after" => Ok(Self::After),
            "async" => Ok(Self::Async),
            _ => Err("must be before, after or async"),
        }
    }
}

impl fmt::Display for CallbackMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Async => "async",
        })
    }
}

/// Range of callback delays in milliseconds (`--callback-delay-ms`), both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayMs(pub RangeInclusive<u32>);

impl FromStr for DelayMs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (parse_millis(from)?, parse_millis(to)?);
        if from > to {
            Err("the range's first number is greater than its second")
        } else {
            Ok(Self(from..=to))
        }
    }
}

fn parse_millis(text: &str) -> Result<u32, &'static str> {
    text.trim().parse().map_err(|_| "must be milliseconds such as 50, or a range such as 100..500")
}

/// Requested faults; the default is none.
#[derive(Debug, Clone, PartialEq)]
pub struct MisbehaviourSettings {
    /// Delay of callbacks; one delay per batch message.
    pub delay: DelayMs,
    /// Fraction of callbacks that are lost, 0 to 1.
    pub drop_rate: f64,
    /// Fraction of callbacks that are sent twice, 0 to 1.
    pub duplicate_rate: f64,
    /// Fraction of questions answered `UNAVAILABLE`, 0 to 1.
    pub error_rate: f64,
}

impl Default for MisbehaviourSettings {
    fn default() -> Self {
        Self { delay: DelayMs(0..=0), drop_rate: 0.0, duplicate_rate: 0.0, error_rate: 0.0 }
    }
}

/// Faults of one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DrawnMisbehaviour {
    /// The answer is `UNAVAILABLE`; nothing is assigned.
    pub(crate) is_error: bool,
    /// The callback is not sent.
    pub(crate) is_dropped: bool,
    /// The callback is sent twice.
    pub(crate) is_duplicate: bool,
    /// Delay of the callback.
    pub(crate) delay: Duration,
}

/// Draws the faults. Free of cost without faults, else some 10 bytes per order.
pub(crate) struct MisbehaviourSource {
    seed: Seed,
    settings: Option<MisbehaviourSettings>,
    questions: Mutex<HashMap<i32, u32>>,
}

impl MisbehaviourSource {
    pub(crate) fn new(seed: Seed, misbehaviour: MisbehaviourSettings) -> Self {
        let settings = (misbehaviour != MisbehaviourSettings::default()).then_some(misbehaviour);
        Self { seed, settings, questions: Mutex::default() }
    }

    /// Faults of the next question about this order.
    pub(crate) fn next(&self, order_id: i32) -> DrawnMisbehaviour {
        let Some(settings) = &self.settings else { return DrawnMisbehaviour::default() };
        let question = self.count_question(order_id);
        let (from, to) = (*settings.delay.0.start(), *settings.delay.0.end());
        let width = u64::from(to - from) + 1;
        let delay_ms =
            u64::from(from) + self.seed.draw_bits(DrawPurpose::Delay, order_id, question) % width;
        let seed = self.seed;
        let error = seed.draw_fraction(DrawPurpose::Error, order_id, question);
        let dropped = seed.draw_fraction(DrawPurpose::Drop, order_id, question);
        let duplicate = seed.draw_fraction(DrawPurpose::Duplicate, order_id, question);
        DrawnMisbehaviour {
            is_error: error < settings.error_rate,
            is_dropped: dropped < settings.drop_rate,
            is_duplicate: duplicate < settings.duplicate_rate,
            delay: Duration::from_millis(delay_ms),
        }
    }

    fn count_question(&self, order_id: i32) -> u32 {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let count = questions.entry(order_id).or_default();
        let question = *count;
        *count = count.wrapping_add(1);
        question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64) -> MisbehaviourSource {
        let wild = MisbehaviourSettings {
            delay: DelayMs(10..=30),
            drop_rate: 0.3,
            duplicate_rate: 0.2,
            error_rate: 0.1,
        };
        MisbehaviourSource::new(Seed(seed), wild)
    }

    #[test]
    fn the_same_seed_and_questions_meet_the_same_fates_in_any_order() {
        let (forwards, backwards, other) = (fates(1), fates(1), fates(2));
        let mut first: Vec<DrawnMisbehaviour> =
            (0..1000).map(|order| forwards.next(order)).collect();
        first.reverse();
        let second: Vec<DrawnMisbehaviour> =
            (0..1000).rev().map(|order| backwards.next(order)).collect();
        assert_eq!(first, second);
        let third: Vec<DrawnMisbehaviour> =
            (0..1000).rev().map(|order| other.next(order)).collect();
        assert_ne!(first, third);
    }

    #[test]
    fn rates_and_delays_are_kept_and_a_lost_order_is_not_lost_for_ever() {
        let fates = fates(7);
        let drawn: Vec<DrawnMisbehaviour> = (0..10_000).map(|order| fates.next(order)).collect();
        let part =
            |is: fn(&DrawnMisbehaviour) -> bool| drawn.iter().filter(|fate| is(fate)).count();
        assert!((2800..3200).contains(&part(|fate| fate.is_dropped)));
        assert!((1800..2200).contains(&part(|fate| fate.is_duplicate)));
        assert!((800..1200).contains(&part(|fate| fate.is_error)));
        let millis = |fate: &DrawnMisbehaviour| fate.delay.as_millis();
        assert_eq!(drawn.iter().map(millis).min(), Some(10));
        assert_eq!(drawn.iter().map(millis).max(), Some(30));
        let lost = (0..10_000).find(|order| drawn[*order as usize].is_dropped).unwrap();
        assert!((0..50).any(|_| !fates.next(lost).is_dropped));
    }

    #[test]
    fn nobody_asked_means_no_harm() {
        let fates = MisbehaviourSource::new(Seed(1), MisbehaviourSettings::default());
        assert!((0..1000).all(|order| fates.next(order) == DrawnMisbehaviour::default()));
    }

    #[test]
    fn delays_are_a_number_or_a_range() {
        assert_eq!("5".parse(), Ok(DelayMs(5..=5)));
        assert_eq!("5..70".parse(), Ok(DelayMs(5..=70)));
        for wrong in ["", "a", "5..", "..5", "9..5", "-1", "1...2", "4294967296"] {
            assert!(wrong.parse::<DelayMs>().is_err(), "{wrong}");
        }
    }
}
