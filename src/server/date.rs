//! `Date` (RFC 9110 §5.6.7), written anew once a second by each thread.

use std::cell::RefCell;

use http::HeaderValue;

use crate::clock::UnixSeconds;

/// The field's value at this time.
pub fn value(now: UnixSeconds) -> HeaderValue {
    LAST.with_borrow_mut(|(second, value)| {
        if *second != now {
            (*second, *value) = (now, render(now));
        }
        value.clone()
    })
}

fn render(now: UnixSeconds) -> HeaderValue {
    let time = i64::try_from(now)
        .ok()
        .and_then(|now| jiff::Timestamp::from_second(now).ok())
        .unwrap_or_default();
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text).unwrap_or(EPOCH)
}

thread_local! {
    static LAST: RefCell<(UnixSeconds, HeaderValue)> = const { RefCell::new((0, EPOCH)) };
}

const EPOCH: HeaderValue = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_has_it() {
        for (now, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ] {
            assert_eq!(value(now), date);
        }
    }
}
