//! Text form of a report.

use comfy_table::{ContentArrangement, Table, presets};

use super::{Report, RowReport};
use crate::figures::{Figure, RATIO};

/// Formats machine, results, costs, verifications and notes.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.machine.text(), commits(&report.rows));
    text.push_str(&results(&report.rows).to_string());
    text.push_str("\n\ncost of one unit (processor time, WAL), memory\n");
    text.push_str(&costs(&report.rows).to_string());
    text.push('\n');
    for row in &report.rows {
        if !row.verified.is_empty() {
            text.push_str(&format!("{:<3} verified: {}\n", row.id, row.verified));
        }
        for note in &row.notes {
            text.push_str(&format!("{:<3} note: {note}\n", row.id));
        }
    }
    text
}

fn commits(rows: &[RowReport]) -> String {
    let mut commits: Vec<&str> = rows.iter().map(|row| row.commit.as_str()).collect();
    commits.dedup();
    let quick = if rows.iter().any(|row| row.quick) {
        " (quick run: a tendency, no verdict to quote)"
    } else {
        ""
    };
    format!("commit     {}{quick}", commits.join(", "))
}

fn results(rows: &[RowReport]) -> Table {
    let mut table =
        grid(["row", "what", "target", "figures", "limit in the same run", "ratio", "verdict"]);
    for row in rows {
        let (ratios, figures): (Vec<&Figure>, Vec<&Figure>) =
            row.figures.iter().partition(|figure| figure.name.starts_with(RATIO));
        table.add_row([
            row.id.clone(),
            row.what.clone(),
            row.target.clone(),
            lines(figures),
            lines(&row.limits),
            lines(ratios).replace(RATIO, "to "),
            row.verdict.text(),
        ]);
    }
    table
}

fn costs(rows: &[RowReport]) -> Table {
    let mut table = grid(["row", "cost"]);
    for row in rows.iter().filter(|row| !row.costs.is_empty()) {
        let costs: Vec<String> = row.costs.iter().map(line).collect();
        table.add_row([row.id.clone(), costs.join("; ")]);
    }
    table
}

fn grid<const N: usize>(header: [&str; N]) -> Table {
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

fn lines<'f>(figures: impl IntoIterator<Item = &'f Figure>) -> String {
    figures.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(figure: &Figure) -> String {
    format!("{} {}", figure.name, figure.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Unit, Verdict, ratio};
    use crate::platform::ServerSettings;
    use crate::report::{Machine, agreement, slower};

    fn report() -> Report {
        let settings = ServerSettings {
            version: "15.14".to_owned(),
            fsync: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            full_page_writes: "on".to_owned(),
        };
        let machine = Machine {
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
            verdict: Verdict::Met,
            figures: vec![
                Figure::once("orders", Unit::PerSecond, 15_000.0),
                ratio("limit", 15.0, 20.0),
            ],
            limits: vec![Figure::once("limit", Unit::PerSecond, 20_000.0)],
            costs: vec![Figure::once("WAL", Unit::Bytes, 500.0)],
            verified: "all there".to_owned(),
            notes: vec!["beware".to_owned()],
            charts: Vec::new(),
            measured_at: chrono::Utc::now(),
            commit: "abc".to_owned(),
            quick: false,
            seconds: 1.0,
        };
        Report { machine, rows: vec![row] }
    }

    #[test]
    fn a_run_is_compared_with_the_one_before_it() {
        let (now, mut before) = (report(), report());
        assert!(agreement(&now, &before)[0].contains("agrees with"));
        before.rows[0].figures[0] = Figure::once("orders", Unit::PerSecond, 5000.0);
        assert!(agreement(&now, &before)[0].contains("DIFFERS from"));
        assert!(slower(&now, &before).is_empty());
        before.rows[0].figures[0] = Figure::once("orders", Unit::PerSecond, 25_000.0);
        assert!(slower(&now, &before)[0].contains("SLOWER than"));
        before.machine.cores = 64;
        assert!(agreement(&now, &before).is_empty() && slower(&now, &before).is_empty());
    }

    #[test]
    fn the_table_says_everything_about_a_row() {
        let text = text(&report());
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
