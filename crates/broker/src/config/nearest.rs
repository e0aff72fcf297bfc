//! The known word that is nearest to an unknown one.

/// The candidate with the fewest edits from `word`, unless even that one is far off (more than a third of its letters).
pub(crate) fn nearest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (distance(word, &candidate), candidate))
        .min()
        .filter(|(edits, candidate)| *edits <= candidate.chars().count().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time. The unknown word is cut, so that a long one costs nothing.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(128).collect();
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn names_the_near_and_not_the_far() {
        let known = ["broker.id", "broker.rack", "cluster.id"];
        let find = |word: &str| nearest(word, known.iter().map(|k| (*k).to_owned()));
        assert_eq!(find("broker.idd").as_deref(), Some("broker.id"));
        assert_eq!(find("clsuter.id").as_deref(), Some("cluster.id"));
        assert_eq!(find("something.else.entirely"), None);
    }
}
