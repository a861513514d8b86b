//! Statistics over several runs: median and range.

/// The median; 0 for no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Minimum and maximum; zeros for no values.
pub fn min_and_max(values: &[f64]) -> (f64, f64) {
    let min = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
    let max = values.iter().copied().reduce(f64::max).unwrap_or(0.0);
    (min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert!(median(&[3.0, 1.0, 2.0]) == 2.0);
        assert!(median(&[4.0, 1.0, 2.0, 3.0]) == 2.5);
        assert!(median(&[7.0]) == 7.0 && median(&[]) == 0.0);
    }

    #[test]
    fn the_range_goes_from_the_smallest_to_the_largest() {
        assert_eq!(min_and_max(&[3.0, 1.0, 2.0]), (1.0, 3.0));
        assert_eq!(min_and_max(&[]), (0.0, 0.0));
    }
}
