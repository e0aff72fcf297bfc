//! Which partition of the coordinator's topic keeps a group.

/// The partition that keeps a group or a transactional id, among `partitions` of them: Java's `String.hashCode`, without
/// its sign, modulo the number of partitions (Kafka's `GroupCoordinatorService.partitionFor`). The most negative
/// hash has no positive counterpart and counts as zero (`Utils.abs`).
///
/// Without partitions there is nothing to choose from, and the answer is zero.
pub fn partition_for(id: &str, partitions: u32) -> u32 {
    let hash = java_hash(id);
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    positive.checked_rem(partitions).unwrap_or(0)
}

/// `s[0]*31^(n-1) + s[1]*31^(n-2) + … + s[n-1]` over UTF-16 code units, wrapping.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the documentation of `String.hashCode`'s formula, and well-known ones.
    #[test]
    fn hashes_are_javas() {
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("hello", 99_162_322),
            ("Hello World", -862_545_276),
            ("Aa", 2112),
            ("BB", 2112),
            ("polygenelubricants", i32::MIN),
            ("ä", 228),
            ("😀", 1_772_899),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
    }

    #[test]
    fn the_sign_goes_and_the_most_negative_is_zero() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("hello", 50), 22);
        assert_eq!(partition_for("Hello World", 50), 26);
        assert_eq!(partition_for("hello", 0), 0);
    }
}
