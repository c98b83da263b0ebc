//! Answers that are listened to, over a store in a file.
