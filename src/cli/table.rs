//! Columns of text, laid out as Go's `text/tabwriter` does, which docker's commands print with.
//!
//! Cells end with a tab. A column is a run of neighbouring lines that have a cell at its place; it is
//! as wide as its widest cell and the padding. The text after the last tab of a line is in no column.

/// Lays tab-separated lines out in columns of at least `min_width` characters, with `padding` spaces
/// between them.
pub fn columns(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    let widths = widths(&lines, |cell| min_width.max(cell + padding));
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, wide) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell))));
        }
        out.push_str(cells.last().unwrap_or(&""));
        out.push('\n');
    }
    out
}

/// Returns the width of each cell that ends with a tab: `wide` of the widest cell of its column.
pub(super) fn widths(lines: &[Vec<&str>], wide: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let cells = |line: &Vec<&str>| vec![0; line.len().saturating_sub(1)];
    let mut widths: Vec<Vec<usize>> = lines.iter().map(cells).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let run = widths[start..]
                .iter()
                .take_while(|cells| cells.len() > column)
                .count();
            let cells = start..start + run;
            let widest = lines[cells.clone()].iter().map(|line| width(line[column]));
            let wide = wide(widest.max().unwrap_or(0));
            for line in &mut widths[cells] {
                line[column] = wide;
            }
            start += run.max(1);
        }
    }
    widths
}

/// Counts characters, as Go's tabwriter does.
pub(super) fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_neighbouring_lines_make_a_column() {
        assert_eq!(columns("a\tb\nccc\td\n", 0, 1), "a   b\nccc d\n");
        // A line without a tab ends the column.
        assert_eq!(
            columns("Name:\tx\nLabels:\n\tlong key:\tv\n\tk:\tw\n", 0, 1),
            "Name: x\nLabels:\n long key: v\n k:        w\n"
        );
        assert_eq!(columns("a\tb\n\nlonger\tc\n", 0, 1), "a b\n\nlonger c\n");
    }

    #[test]
    fn columns_have_a_least_width() {
        assert_eq!(
            columns("NAME\tSTATUS\tX\na\trunning now\ty\n", 10, 3),
            "NAME      STATUS        X\na         running now   y\n"
        );
        assert_eq!(columns("ä\tb\nxx\tc\n", 0, 1), "ä  b\nxx c\n");
        assert_eq!(columns("", 10, 3), "");
    }
}
