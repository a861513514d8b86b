//! Line charts as SVG: axes from zero, readable on light and dark pages.

use serde::{Deserialize, Serialize};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right, bottom of the plot area.
const PLOT_AREA: [f64; 4] = [80.0, 40.0, 620.0, 300.0];
const SERIES_COLOURS: [&str; 4] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"];

/// A chart with several curves over the same axes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chart {
    /// File name of the SVG, without extension.
    pub file: String,
    /// Title above the chart.
    pub title: String,
    /// Label of the x axis.
    pub x: String,
    /// Label of the y axis.
    pub y: String,
    /// Curves; colours repeat after four.
    pub series: Vec<ChartSeries>,
}

/// One curve of a chart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChartSeries {
    /// Name in the legend.
    pub name: String,
    /// Points in order of x.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// Renders the chart as SVG.
    pub fn render_svg(&self) -> String {
        let axis_end = |axis: fn(&(f64, f64)) -> f64| {
            let all = self.series.iter().flat_map(|series| series.points.iter().map(axis));
            round_up(all.fold(0.0, f64::max))
        };
        let (max_x, max_y) = (axis_end(|point| point.0), axis_end(|point| point.1));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        svg.push_str(&render_label(WIDTH / 2.0, 20.0, "middle", &self.title));
        svg.push_str(&render_axes(max_x, max_y));
        svg.push_str(&render_label(WIDTH / 2.0, HEIGHT - 25.0, "middle", &self.x));
        svg.push_str(&render_label(PLOT_AREA[0] - 70.0, PLOT_AREA[1] - 10.0, "start", &self.y));
        for (index, series) in self.series.iter().enumerate() {
            svg.push_str(&render_curve(
                series,
                SERIES_COLOURS[index % SERIES_COLOURS.len()],
                max_x,
                max_y,
            ));
            let (x, y) = (PLOT_AREA[0] + 140.0 * index as f64, HEIGHT - 8.0);
            let colour = SERIES_COLOURS[index % SERIES_COLOURS.len()];
            svg.push_str(&format!(
                "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n",
                y - 9.0
            ));
            svg.push_str(&render_label(x + 15.0, y, "start", &series.name));
        }
        svg + "</svg>\n"
    }
}

fn plot_point(x: f64, y: f64, max_x: f64, max_y: f64) -> (f64, f64) {
    let [left, top, right, bottom] = PLOT_AREA;
    (left + (right - left) * x / max_x, bottom - (bottom - top) * y / max_y)
}

fn render_axes(max_x: f64, max_y: f64) -> String {
    let [left, _, right, bottom] = PLOT_AREA;
    let mut svg = String::new();
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let (x, y) = plot_point(max_x * part, max_y * part, max_x, max_y);
        svg.push_str(&format!("<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>\n"));
        svg.push_str(&render_label(left - 6.0, y + 4.0, "end", &short_number(max_y * part)));
        svg.push_str(&render_label(x, bottom + 16.0, "middle", &short_number(max_x * part)));
    }
    svg
}

fn render_curve(series: &ChartSeries, colour: &str, max_x: f64, max_y: f64) -> String {
    let plot_points = series.points.iter().map(|(x, y)| plot_point(*x, *y, max_x, max_y));
    let points: Vec<String> = plot_points.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let line = points.join(" ");
    let mut svg = format!(
        "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n"
    );
    for (x, y) in plot_points {
        svg.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n"));
    }
    svg
}

fn render_label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{text}</text>\n"
    )
}

/// The next of 1, 2, 5, 10, 20, …; 1 for values up to 0.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.map(|step| step * power).into_iter().find(|step| *step >= value).unwrap_or(value)
}

fn short_number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e4 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_curves_and_escapes_its_texts() {
        let series =
            ChartSeries { name: "a < b".to_owned(), points: vec![(0.0, 1.0), (10.0, 2.0)] };
        let [title, x, y] = ["cost", "events", "us"].map(str::to_owned);
        let svg = Chart { file: "f".to_owned(), title, x, y, series: vec![series] }.render_svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.contains("80.0,170.0 620.0,40.0"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 1.0, 3.0, 18.0, 6e6].map(round_up), [1.0, 1.0, 1.0, 5.0, 20.0, 1e7]);
    }

    #[test]
    fn large_numbers_are_short() {
        assert_eq!(["2.5M", "10k", "500"], [2.5e6, 1e4, 500.0].map(short_number));
    }
}
