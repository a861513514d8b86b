//! Figures: measured values with their noise, and verdicts on them.

mod latency;
mod rule;
mod statistics;

use serde::{Deserialize, Serialize};

pub use latency::LatencyHistogram;
pub use rule::{RowVerdict, TargetRule, at_least, at_most, judge_figures};

/// Prefix of the names of ratios.
pub const RATIO_PREFIX: &str = "ratio to ";

/// Unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FigureUnit {
    /// Operations per second.
    #[serde(rename = "/s")]
    PerSecond,
    /// Operations per second of CPU time.
    #[serde(rename = "/CPU-s")]
    PerCpuSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Microseconds of CPU time per operation.
    #[serde(rename = "us")]
    Micros,
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Millions of bytes.
    #[serde(rename = "MB")]
    Megabytes,
    /// Per cent.
    #[serde(rename = "%")]
    PerCent,
    /// Ratio of two figures.
    #[serde(rename = "x")]
    Ratio,
    /// A number without unit.
    #[serde(rename = "")]
    Count,
}

impl FigureUnit {
    /// Suffix of a formatted value.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::PerCpuSecond => "/CPU-s",
            Self::Millis => " ms",
            Self::Seconds => " s",
            Self::Micros => " us",
            Self::Bytes => " B",
            Self::Megabytes => " MB",
            Self::PerCent => " %",
            Self::Ratio => " x",
            Self::Count => "",
        }
    }
}

/// A figure: median of several runs, with minimum and maximum as its noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name, unique within a row.
    pub name: String,
    /// Unit of all values.
    pub unit: FigureUnit,
    /// Median of the runs.
    pub median: f64,
    /// Minimum of the runs.
    pub min: f64,
    /// Maximum of the runs.
    pub max: f64,
    /// Number of runs.
    pub runs: usize,
}

impl Figure {
    /// A figure from the values of several runs.
    pub fn from_values(name: impl Into<String>, unit: FigureUnit, values: &[f64]) -> Self {
        let (min, max) = statistics::min_and_max(values);
        let median = statistics::median(values);
        Self { name: name.into(), unit, median, min, max, runs: values.len() }
    }

    /// A figure from a single run.
    pub fn from_value(name: impl Into<String>, unit: FigureUnit, value: f64) -> Self {
        Self::from_values(name, unit, &[value])
    }

    /// Whether two figures are consistent: each median lies within the other's noise, or they
    /// differ by at most 10 %, because the noise may be unknown or too small.
    pub fn agrees_with(&self, earlier: &Self) -> bool {
        let within = |one: &Self, other: &Self| (other.min..=other.max).contains(&one.median);
        let apart = (self.median - earlier.median).abs();
        within(self, earlier) && within(earlier, self) || apart <= 0.1 * earlier.median.abs()
    }

    /// Whether it is worse than `earlier` by more than the fraction `fraction`: lower for rates and
    /// ratios, higher for times and sizes.
    pub fn is_worse_than(&self, earlier: &Self, fraction: f64) -> bool {
        match self.unit {
            FigureUnit::PerSecond | FigureUnit::PerCpuSecond | FigureUnit::Ratio => {
                self.median < earlier.median * (1.0 - fraction)
            }
            FigureUnit::Millis
            | FigureUnit::Seconds
            | FigureUnit::Micros
            | FigureUnit::Bytes
            | FigureUnit::Megabytes
            | FigureUnit::PerCent => self.median > earlier.median * (1.0 + fraction),
            FigureUnit::Count => false,
        }
    }

    /// Formatted value with unit, and the noise if there were several runs.
    pub fn to_text(&self) -> String {
        let value = format_value(self.median);
        let unit = self.unit.suffix();
        if self.runs < 2 {
            return format!("{value}{unit}");
        }
        format!("{value}{unit} ({}-{})", format_value(self.min), format_value(self.max))
    }
}

/// Ratio of `of` to `reference_value`, which is called `reference`.
pub fn ratio_figure(reference: &str, measured: f64, reference_value: f64) -> Figure {
    let value = if reference_value > 0.0 { measured / reference_value } else { 0.0 };
    Figure::from_value(format!("{RATIO_PREFIX}{reference}"), FigureUnit::Ratio, value)
}

/// Three significant digits; measurements are not more precise.
fn format_value(value: f64) -> String {
    let digits = match value.abs() {
        big if big >= 1000.0 => return group_digits(value.round() as i64),
        some if some >= 100.0 => 0,
        some if some >= 10.0 => 1,
        some if some >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn group_digits(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_unit_and_noise() {
        assert_eq!(
            Figure::from_values("orders", FigureUnit::PerSecond, &[12_600.4, 12_000.0, 13_000.0])
                .to_text(),
            "12,600/s (12,000-13,000)"
        );
        assert_eq!(Figure::from_value("p99", FigureUnit::Millis, 1.234).to_text(), "1.23 ms");
        assert_eq!(
            Figure::from_value("size", FigureUnit::Bytes, 1_234_567.0).to_text(),
            "1,234,567 B"
        );
    }

    #[test]
    fn runs_agree_within_their_noise_or_a_tenth() {
        let figure = |values: &[f64]| Figure::from_values("orders", FigureUnit::PerSecond, values);
        assert!(figure(&[80.0, 100.0, 140.0]).agrees_with(&figure(&[70.0, 125.0, 130.0])));
        assert!(figure(&[100.0]).agrees_with(&figure(&[109.0])));
        assert!(!figure(&[80.0, 100.0, 140.0]).agrees_with(&figure(&[124.0, 125.0, 130.0])));
    }

    #[test]
    fn worse_is_less_of_a_rate_and_more_of_a_time() {
        let rate = |value| Figure::from_value("orders", FigureUnit::PerSecond, value);
        assert!(
            rate(70.0).is_worse_than(&rate(100.0), 0.25)
                && !rate(80.0).is_worse_than(&rate(100.0), 0.25)
        );
        let time = |value| Figure::from_value("p50", FigureUnit::Millis, value);
        assert!(
            time(1.3).is_worse_than(&time(1.0), 0.25) && !time(0.1).is_worse_than(&time(1.0), 0.25)
        );
    }

    #[test]
    fn a_ratio_names_what_it_is_to() {
        let ratio = ratio_figure("the exchange alone", 1.0, 2.0);
        assert_eq!(
            (ratio.name.as_str(), ratio.to_text().as_str()),
            ("ratio to the exchange alone", "0.500 x")
        );
        assert!(super::ratio_figure("nothing", 1.0, 0.0).median == 0.0);
    }
}
