//! The beginning of a consumer's subscription, which assignors encode and coordinators only look into.

use super::bytes::Reader;

/// The topics to which a consumer subscribes (`ConsumerProtocolSubscription`: a version, then topics; all versions begin
/// alike). None if the bytes are not that.
pub fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(subscription);
    if reader.i16().ok()? < 0 {
        return None;
    }
    // A topic takes at least the two bytes of its length.
    let count = reader.count(2).ok()?;
    (0..count).map(|_| reader.string().ok()).collect()
}
