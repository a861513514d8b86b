//! Text form of a report.

use comfy_table::{ContentArrangement, Table, presets};

use super::{BenchReport, RowReport};
use crate::figures::{Figure, RATIO_PREFIX};

/// Formats machine, results, costs, verifications and notes.
pub fn render_report(report: &BenchReport) -> String {
    let mut output = format!("{}\n{}\n", report.machine.to_text(), commits_line(&report.rows));
    output.push_str(&results_table(&report.rows).to_string());
    output.push_str("\n\ncost of one unit (processor time, WAL), memory\n");
    output.push_str(&costs_table(&report.rows).to_string());
    output.push('\n');
    for row in &report.rows {
        if !row.verified.is_empty() {
            output.push_str(&format!("{:<3} verified: {}\n", row.id, row.verified));
        }
        for note in &row.notes {
            output.push_str(&format!("{:<3} note: {note}\n", row.id));
        }
    }
    output
}

fn commits_line(rows: &[RowReport]) -> String {
    let mut ids: Vec<&str> = rows.iter().map(|row| row.commit.as_str()).collect();
    ids.dedup();
    let quick = if rows.iter().any(|row| row.quick) {
        " (quick run: a tendency, no verdict to quote)"
    } else {
        ""
    };
    format!("commit     {}{quick}", ids.join(", "))
}

fn results_table(rows: &[RowReport]) -> Table {
    let mut table = new_table([
        "row",
        "what",
        "target",
        "figures",
        "limit in the same run",
        "ratio",
        "verdict",
    ]);
    for row in rows {
        let (ratios, figures): (Vec<&Figure>, Vec<&Figure>) =
            row.figures.iter().partition(|figure| figure.name.starts_with(RATIO_PREFIX));
        table.add_row([
            row.id.clone(),
            row.what.clone(),
            row.target.clone(),
            figure_lines(figures),
            figure_lines(&row.limits),
            figure_lines(ratios).replace(RATIO_PREFIX, "to "),
            row.verdict.to_text(),
        ]);
    }
    table
}

fn costs_table(rows: &[RowReport]) -> Table {
    let mut table = new_table(["row", "cost"]);
    for row in rows.iter().filter(|row| !row.costs.is_empty()) {
        let parts: Vec<String> = row.costs.iter().map(figure_line).collect();
        table.add_row([row.id.clone(), parts.join("; ")]);
    }
    table
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    // Fallback if the terminal width is unknown.
    if table.width().is_none() {
        table.set_width(180);
    }
    table.set_header(header);
    table
}

fn figure_lines<'f>(figures: impl IntoIterator<Item = &'f Figure>) -> String {
    figures.into_iter().map(figure_line).collect::<Vec<_>>().join("\n")
}

fn figure_line(figure: &Figure) -> String {
    format!("{} {}", figure.name, figure.to_text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{FigureUnit, RowVerdict, ratio_figure};
    use crate::platform::ServerSettings;
    use crate::report::{MachineInfo, agreement_lines, slower_lines};

    fn report() -> BenchReport {
        let settings = ServerSettings {
            version: "15.14".to_owned(),
            fsync: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            full_page_writes: "on".to_owned(),
        };
        let machine = MachineInfo {
            cores: 2,
            cpu: "a processor".to_owned(),
            memory_mb: 100,
            kernel: "6".to_owned(),
            profile: "release".to_owned(),
            postgres: settings,
            load_before: "0.1".to_owned(),
        };
        let row = RowReport {
            id: "O1".to_owned(),
            what: "orders".to_owned(),
            target: ">= 0.5".to_owned(),
            verdict: RowVerdict::Met,
            figures: vec![
                Figure::from_value("orders", FigureUnit::PerSecond, 15_000.0),
                ratio_figure("limit", 15.0, 20.0),
            ],
            limits: vec![Figure::from_value("limit", FigureUnit::PerSecond, 20_000.0)],
            costs: vec![Figure::from_value("WAL", FigureUnit::Bytes, 500.0)],
            verified: "all there".to_owned(),
            notes: vec!["beware".to_owned()],
            charts: Vec::new(),
            measured_at: chrono::Utc::now(),
            commit: "abc".to_owned(),
            quick: false,
            seconds: 1.0,
        };
        BenchReport { machine, rows: vec![row] }
    }

    #[test]
    fn a_run_is_compared_with_the_one_before_it() {
        let (now, mut before) = (report(), report());
        assert!(agreement_lines(&now, &before)[0].contains("agrees with"));
        before.rows[0].figures[0] = Figure::from_value("orders", FigureUnit::PerSecond, 5000.0);
        assert!(agreement_lines(&now, &before)[0].contains("DIFFERS from"));
        assert!(slower_lines(&now, &before).is_empty());
        before.rows[0].figures[0] = Figure::from_value("orders", FigureUnit::PerSecond, 25_000.0);
        assert!(slower_lines(&now, &before)[0].contains("SLOWER than"));
        before.machine.cores = 64;
        assert!(
            agreement_lines(&now, &before).is_empty() && slower_lines(&now, &before).is_empty()
        );
    }

    #[test]
    fn the_table_says_everything_about_a_row() {
        let text = render_report(&report());
        for part in [
            "2 cores (a processor)",
            "fsync on",
            "commit     abc",
            "orders 15,000/s",
            "limit 20,000/s",
            "to limit 0.750 x",
            "met",
            "WAL 500 B",
            "verified: all there",
            "note: beware",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
