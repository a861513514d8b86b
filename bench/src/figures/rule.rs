//! Targets as rules on figures, and the verdict on a row.

use serde::{Deserialize, Serialize};

use super::Figure;

/// Bound of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetBound {
    /// Lower bound, inclusive.
    AtLeast(f64),
    /// Upper bound, inclusive.
    AtMost(f64),
}

/// One condition of a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetRule {
    /// Name of the figure.
    pub figure: &'static str,
    /// Required bound of its median.
    pub bound: TargetBound,
}

/// Rule: the figure is at least `value`.
pub const fn at_least(figure: &'static str, value: f64) -> TargetRule {
    TargetRule { figure, bound: TargetBound::AtLeast(value) }
}

/// Rule: the figure is at most `value`.
pub const fn at_most(figure: &'static str, value: f64) -> TargetRule {
    TargetRule { figure, bound: TargetBound::AtMost(value) }
}

impl TargetRule {
    /// Whether the rule holds; `None` if the figure is missing.
    fn is_met(&self, figures: &[Figure]) -> Option<bool> {
        let figure = figures.iter().find(|figure| figure.name == self.figure)?;
        Some(match self.bound {
            TargetBound::AtLeast(value) => figure.median >= value,
            TargetBound::AtMost(value) => figure.median <= value,
        })
    }

    /// Ratios apply to any machine; absolute values only to one kind of machine.
    fn is_ratio(&self) -> bool {
        self.figure.starts_with(super::RATIO_PREFIX)
    }

    fn to_text(self) -> String {
        match self.bound {
            TargetBound::AtLeast(value) => format!("{} >= {value}", self.figure),
            TargetBound::AtMost(value) => format!("{} <= {value}", self.figure),
        }
    }
}

/// Verdict on a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum RowVerdict {
    /// All rules hold.
    Met,
    /// All ratio rules hold; these absolute rules, which depend on the machine, do not.
    RatioMet(Vec<String>),
    /// These rules do not hold.
    Missed(Vec<String>),
    /// There are no rules, or the run was too small for a verdict.
    MeasuredOnly,
    /// The row failed to run, or acknowledged data is missing.
    Failed(String),
}

/// The verdict of `rules` on `figures`. A rule whose figure is missing counts as missed.
pub fn judge_figures(rules: &[TargetRule], figures: &[Figure]) -> RowVerdict {
    if rules.is_empty() {
        return RowVerdict::MeasuredOnly;
    }
    let missed: Vec<&TargetRule> =
        rules.iter().filter(|rule| rule.is_met(figures) != Some(true)).collect();
    let texts = missed.iter().map(|rule| rule.to_text()).collect();
    let has_ratio = rules.iter().any(TargetRule::is_ratio);
    match missed.as_slice() {
        [] => RowVerdict::Met,
        missed if has_ratio && !missed.iter().any(|rule| rule.is_ratio()) => {
            RowVerdict::RatioMet(texts)
        }
        _ => RowVerdict::Missed(texts),
    }
}

impl RowVerdict {
    /// The verdict as text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Met => "met".to_owned(),
            Self::RatioMet(missed) => format!("ratio met; absolute missed: {}", missed.join(", ")),
            Self::Missed(missed) => format!("missed: {}", missed.join(", ")),
            Self::MeasuredOnly => "measured only".to_owned(),
            Self::Failed(reason) => format!("FAILED: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{FigureUnit, ratio_figure};

    fn figures(rate: f64, part: f64) -> Vec<Figure> {
        vec![
            Figure::from_value("orders", FigureUnit::PerSecond, rate),
            Figure { median: part, ..ratio_figure("x", 1.0, 1.0) },
        ]
    }

    #[test]
    fn a_row_is_met_when_every_rule_holds() {
        let rules = [at_least("orders", 100.0), at_least("ratio to x", 0.5)];
        assert_eq!(judge_figures(&rules, &figures(100.0, 0.5)), RowVerdict::Met);
        assert!(matches!(judge_figures(&rules, &figures(99.0, 0.5)), RowVerdict::RatioMet(_)));
        assert!(matches!(judge_figures(&rules, &figures(100.0, 0.4)), RowVerdict::Missed(_)));
    }

    #[test]
    fn without_a_ratio_the_absolute_values_decide() {
        let judged = judge_figures(&[at_most("orders", 2.0)], &figures(3.0, 1.0));
        assert_eq!(judged, RowVerdict::Missed(vec!["orders <= 2".to_owned()]));
    }

    #[test]
    fn a_figure_that_is_not_there_is_a_miss_and_no_rule_is_no_verdict() {
        assert!(matches!(
            judge_figures(&[at_most("p99", 2.0)], &figures(1.0, 1.0)),
            RowVerdict::Missed(_)
        ));
        assert_eq!(judge_figures(&[], &figures(1.0, 1.0)), RowVerdict::MeasuredOnly);
    }
}
