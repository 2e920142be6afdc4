//! A table in plain text: the first column to the left, numbers to the right.

/// Returns the rows as lines of equal columns, each behind `indent`.
///
/// Columns whose name begins with `<` stand to the left; the sign is not shown.
pub(super) fn columns(indent: &str, heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let is_left: Vec<bool> = heading.iter().map(|name| name.starts_with('<')).collect();
    let heading = heading.iter().map(|name| name.trim_start_matches('<'));
    let heading: Vec<String> = heading.map(str::to_owned).collect();
    let mut widths: Vec<usize> = heading.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(&is_left);
        let cells = cells.map(|((cell, width), is_left)| match is_left {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{indent}{}", line.trim_end())
    };
    std::iter::once(&heading).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["cpu", "1", "ok"]), row(["gpu-large", "10", ""])];
        assert_eq!(
            columns(" ", &["<GROUP", "MAX", "<WHY"], &rows),
            [
                " GROUP      MAX  WHY",
                " cpu          1  ok",
                " gpu-large   10"
            ]
        );
    }
}
