//! Figures: medians, and columns that line up.

use std::fmt::Write;

/// The median; of an even number of values the mean of the middle two. NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The least and the greatest value.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Rows of words under a heading. The first column is aligned left, the others right.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Table(vec![heading.iter().map(|word| (*word).to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.0.push(cells.to_vec());
    }

    pub(crate) fn print(&self) {
        print!("{}", self.render());
    }

    fn render(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                // Writing to a String cannot fail.
                let _ = if column == 0 {
                    write!(line, "{cell:<width$}")
                } else {
                    write!(line, "  {cell:>width$}")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Prints whether an aim was reached. Measurements inform; they never fail a run.
pub(crate) fn aim(what: &str, measured: f64, unit: &str, limit: Limit) {
    let (reached, sign, bound) = match limit {
        Limit::AtLeast(bound) => (measured >= bound, ">=", bound),
        Limit::AtMost(bound) => (measured <= bound, "<=", bound),
    };
    let verdict = if reached { "reached" } else { "not reached" };
    println!("  {verdict:<11}  {what}: {measured:.2}{unit}, aim {sign} {bound}{unit}");
}

pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_order() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["what", "n"]);
        table.row(&["a".to_owned(), "100".to_owned()]);
        assert_eq!(table.render(), "what    n\na     100\n");
    }
}
