//! What brokers say to each other: a versioned postcard envelope, with record bytes carried beside it.
