//! Misbehaviour on request: what befalls a question about an order, drawn from the seed, the order and how often it
//! was asked for, so that a run with the same seed and questions goes the same way whatever its timing.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::seed::{Purpose, Seed};

/// When the callback is sent (`--callback-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Before the question is answered.
    Before,
    /// After the question was answered.
    After,
    /// Beside the answer: before, during or after it.
    Async,
}

impl FromStr for Mode {
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

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Async => "async",
        })
    }
}

/// How long callbacks are held back (`--callback-delay-ms`), both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayMs(pub RangeInclusive<u32>);

impl FromStr for DelayMs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be milliseconds such as 50, or a range such as 100..500";
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().map_err(|_| WRONG);
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            Err("the range's first number is greater than its second")
        } else {
            Ok(Self(from..=to))
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Misbehaviour {
    /// How long callbacks are held back; a batch message is held back once.
    pub delay: DelayMs,
    /// The part of callbacks that is lost, 0 to 1.
    pub drop_rate: f64,
    /// The part of callbacks that is sent twice, 0 to 1.
    pub duplicate_rate: f64,
    /// The part of questions answered `UNAVAILABLE`, 0 to 1.
    pub error_rate: f64,
}

impl Default for Misbehaviour {
    fn default() -> Self {
        Self { delay: DelayMs(0..=0), drop_rate: 0.0, duplicate_rate: 0.0, error_rate: 0.0 }
    }
}

/// What befalls one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It is answered `UNAVAILABLE`, as if it had never arrived.
    pub(crate) error: bool,
    /// Its callback is lost.
    pub(crate) drop: bool,
    /// Its callback is sent twice.
    pub(crate) duplicate: bool,
    /// Its callback is held back.
    pub(crate) delay: Duration,
}

/// Draws fates. While no misbehaviour is asked for this costs nothing; else some 10 bytes an order.
pub(crate) struct Fates {
    seed: Seed,
    asked_for: Option<Misbehaviour>,
    questions: Mutex<HashMap<i32, u32>>,
}

impl Fates {
    pub(crate) fn new(seed: Seed, misbehaviour: Misbehaviour) -> Self {
        let asked_for = (misbehaviour != Misbehaviour::default()).then_some(misbehaviour);
        Self { seed, asked_for, questions: Mutex::default() }
    }

    /// The fate of the next question about this order.
    pub(crate) fn next(&self, order_id: i32) -> Fate {
        let Some(asked_for) = &self.asked_for else { return Fate::default() };
        let question = self.count(order_id);
        let happens = |purpose, rate| self.seed.fraction(purpose, order_id, question) < rate;
        let (from, to) = (*asked_for.delay.0.start(), *asked_for.delay.0.end());
        let width = u64::from(to - from) + 1;
        let delay_ms = u64::from(from) + self.seed.bits(Purpose::Delay, order_id, question) % width;
        Fate {
            error: happens(Purpose::Error, asked_for.error_rate),
            drop: happens(Purpose::Drop, asked_for.drop_rate),
            duplicate: happens(Purpose::Duplicate, asked_for.duplicate_rate),
            delay: Duration::from_millis(delay_ms),
        }
    }

    fn count(&self, order_id: i32) -> u32 {
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

    fn fates(seed: u64) -> Fates {
        let wild =
            Misbehaviour { delay: DelayMs(10..=30), drop_rate: 0.3, duplicate_rate: 0.2, error_rate: 0.1 };
        Fates::new(Seed(seed), wild)
    }

    #[test]
    fn the_same_seed_and_questions_meet_the_same_fates_in_any_order() {
        let (forwards, backwards, other) = (fates(1), fates(1), fates(2));
        let mut first: Vec<Fate> = (0..1000).map(|order| forwards.next(order)).collect();
        first.reverse();
        let second: Vec<Fate> = (0..1000).rev().map(|order| backwards.next(order)).collect();
        assert_eq!(first, second);
        let third: Vec<Fate> = (0..1000).rev().map(|order| other.next(order)).collect();
        assert_ne!(first, third);
    }

    #[test]
    fn rates_and_delays_are_kept_and_a_lost_order_is_not_lost_for_ever() {
        let fates = fates(7);
        let drawn: Vec<Fate> = (0..10_000).map(|order| fates.next(order)).collect();
        let part = |is: fn(&Fate) -> bool| drawn.iter().filter(|fate| is(fate)).count();
        assert!((2800..3200).contains(&part(|fate| fate.drop)));
        assert!((1800..2200).contains(&part(|fate| fate.duplicate)));
        assert!((800..1200).contains(&part(|fate| fate.error)));
        let millis = |fate: &Fate| fate.delay.as_millis();
        assert_eq!(drawn.iter().map(millis).min(), Some(10));
        assert_eq!(drawn.iter().map(millis).max(), Some(30));
        let lost = (0..10_000).find(|order| drawn[*order as usize].drop).unwrap();
        assert!((0..50).any(|_| !fates.next(lost).drop));
    }

    #[test]
    fn nobody_asked_means_no_harm() {
        let fates = Fates::new(Seed(1), Misbehaviour::default());
        assert!((0..1000).all(|order| fates.next(order) == Fate::default()));
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
