//! Tables of bounded width.

use comfy_table::{ContentArrangement, Table, presets};

use crate::escape_control_chars;

/// Borders around the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableBorders {
    /// Lines around the table and between its columns.
    Lines,
    /// Spaces only, for compact output.
    Spaces,
}

/// Renders a table of at most `width` columns. Long cells wrap. All cells are escaped. `header` may
/// be empty.
pub fn render_table(
    borders: TableBorders,
    header: &[String],
    rows: &[Vec<String>],
    width: usize,
) -> String {
    let escape_cells = |cells: &[String]| {
        cells.iter().map(|cell| escape_control_chars(cell).into_owned()).collect::<Vec<_>>()
    };
    let mut table = Table::new();
    table.load_style(match borders {
        TableBorders::Lines => presets::UTF8_FULL_CONDENSED,
        TableBorders::Spaces => presets::NOTHING,
    });
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if !header.is_empty() {
        table.set_header(escape_cells(header));
    }
    for row in rows {
        table.add_row(escape_cells(row));
    }
    if borders == TableBorders::Spaces {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned_cells(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_table_is_as_wide_as_it_may_be() {
        let error = "the data manager answered with an error that goes on and on ".repeat(5);
        let rows = [owned_cells(&["17", "waiting", &error]), owned_cells(&["18", "done", ""])];
        let header = owned_cells(&["order", "state", "error"]);
        for borders in [TableBorders::Lines, TableBorders::Spaces] {
            for width in [60, 80, 120] {
                let text = render_table(borders, &header, &rows, width);
                let widest = text.lines().map(|line| line.chars().count()).max();
                assert!(widest <= Some(width), "{widest:?} columns instead of {width}:\n{text}");
                assert_eq!(text.matches("goes").count(), 5, "{text}");
            }
        }
    }

    #[test]
    fn a_cell_is_no_way_out_of_the_table() {
        let text = render_table(
            TableBorders::Spaces,
            &[],
            &[owned_cells(&["a\nb", "\u{1b}[31mred"]), owned_cells(&["c", "d"])],
            80,
        );
        assert_eq!(text, "a\\nb  \\u{1b}[31mred\nc     d");
    }
}
