//! Deterministic random draws: equal seeds give equal data and equal misbehaviour, independent of
//! the order and the clients of the questions.
//!
//! A draw is a hash: `mix(mix(seed ^ purpose << 56) ^ (order id as u32 << 32 | question))`.
//! `mix(x)` is the output of splitmix64 in state `x`; `question` counts the questions about this
//! order from 0.

/// Domain separation: draws for different purposes are independent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DrawPurpose {
    Data = 0,
    Error = 1,
    Drop = 2,
    Duplicate = 3,
    Delay = 4,
}

/// Seed of all draws (`--seed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// 64 random bits for this purpose, order and question.
    pub(crate) fn draw_bits(self, purpose: DrawPurpose, order_id: i32, question: u32) -> u64 {
        let subject = u64::from(order_id.cast_unsigned()) << 32 | u64::from(question);
        mix_splitmix64(mix_splitmix64(self.0 ^ (purpose as u64) << 56) ^ subject)
    }

    /// Random number in 0..1, with 53 bits.
    pub(crate) fn draw_fraction(self, purpose: DrawPurpose, order_id: i32, question: u32) -> f64 {
        (self.draw_bits(purpose, order_id, question) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Output function of splitmix64 (Steele, Lea, Flood 2014).
fn mix_splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // First two outputs of the reference implementation for seed 0.
        assert_eq!(mix_splitmix64(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix_splitmix64(0x9E37_79B9_7F4A_7C15), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn draws_depend_on_everything_that_names_them() {
        let all = [
            Seed(1).draw_bits(DrawPurpose::Drop, 7, 0),
            Seed(2).draw_bits(DrawPurpose::Drop, 7, 0),
            Seed(1).draw_bits(DrawPurpose::Delay, 7, 0),
            Seed(1).draw_bits(DrawPurpose::Drop, -7, 0),
            Seed(1).draw_bits(DrawPurpose::Drop, 7, 1),
        ];
        for (n, draw) in all.iter().enumerate() {
            assert!(!all[..n].contains(draw), "{n}");
        }
    }

    #[test]
    fn fractions_are_spread_evenly() {
        let below = |limit: f64| {
            (0..10_000)
                .filter(|order| Seed(3).draw_fraction(DrawPurpose::Drop, *order, 0) < limit)
                .count()
        };
        assert!((400..600).contains(&below(0.05)), "{}", below(0.05));
        assert!((4800..5200).contains(&below(0.5)), "{}", below(0.5));
        assert_eq!((below(0.0), below(1.0)), (0, 10_000));
    }
}
