//! The closest of the accepted words.

/// Returns the accepted word that was probably meant.
///
/// At most a third of its letters may differ: beyond that a guess confuses more than it helps.
pub(crate) fn closest<'a>(word: &str, accepted: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let word = plain(word);
    let best = accepted
        .iter()
        .map(|candidate| (distance(&word, &plain(candidate)), *candidate))
        .min()?;
    (best.0 <= best.1.len().div_ceil(3)).then_some(best.1)
}

/// Returns how many letters must be put in, left out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = index;
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
        for (column, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{closest, distance};

    #[test]
    fn the_distance_counts_single_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_typo_or_another_spelling_is_recognised_and_a_stranger_is_not() {
        let keys = ["intervalMin", "intervalMax", "budgetPercent"];
        assert_eq!(closest("interval_min", &keys), Some("intervalMin"));
        assert_eq!(closest("budgetPercnt", &keys), Some("budgetPercent"));
        assert_eq!(closest("colour", &keys), None);
        assert_eq!(closest("x", &[]), None);
    }
}
