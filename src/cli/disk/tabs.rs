//! Columns filled up with tabs to multiples of eight, as buildx lays out totals and prune's rows with
//! Go's `text/tabwriter`.

use super::super::table;

const TAB: usize = 8;

/// Lays tab-separated lines out. A column is as wide as its widest cell and one more character,
/// rounded up to the next tab stop; the text after the last tab is in no column.
pub(in crate::cli) fn columns(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let widths = table::widths(&lines, |cell| (cell + 1).next_multiple_of(TAB));
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, wide) in cells.iter().zip(widths) {
            let fill = wide.saturating_sub(table::width(cell)).div_ceil(TAB);
            out.push_str(cell);
            out.extend(std::iter::repeat_n('\t', fill));
        }
        out.push_str(cells.last().unwrap_or(&""));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_end_at_tab_stops() {
        assert_eq!(
            columns("Shared:\t1MB\nPrivate:\t2MB\nReclaimable:\t3MB\nTotal:\t3MB\n"),
            "Shared:\t\t1MB\nPrivate:\t2MB\nReclaimable:\t3MB\nTotal:\t\t3MB\n"
        );
        assert_eq!(columns("Total:\t0B\n"), "Total:\t0B\n");
        // A row of prune with and without the header.
        let row = format!("{:<40}\ttrue \t{:<10}\t", "abc", "8.192kB");
        assert_eq!(
            columns(&format!("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n{row}\n")),
            format!(
                "ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n{:<40}\ttrue \t\t8.192kB   \t\n",
                "abc"
            )
        );
        assert_eq!(
            columns(&row),
            format!("{:<40}\ttrue \t8.192kB   \t\n", "abc")
        );
    }
}
