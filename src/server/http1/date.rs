//! `Date` (RFC 9110 §5.6.7), written anew once a second by each thread.

use std::cell::Cell;

use crate::clock::UnixSeconds;

/// Writes the field for this time.
pub fn write(out: &mut Vec<u8>, now: UnixSeconds) {
    let (second, text) = LAST.get();
    let text = match second == now {
        true => text,
        false => {
            let text = render(now);
            LAST.set((now, text));
            text
        }
    };
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&text);
    out.extend_from_slice(b"\r\n");
}

fn render(now: UnixSeconds) -> [u8; LENGTH] {
    let time = i64::try_from(now)
        .ok()
        .and_then(|now| jiff::Timestamp::from_second(now).ok())
        .unwrap_or_default();
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    text.as_bytes().try_into().unwrap_or(*EPOCH)
}

thread_local! {
    static LAST: Cell<(UnixSeconds, [u8; LENGTH])> = const { Cell::new((0, *EPOCH)) };
}

const EPOCH: &[u8; LENGTH] = b"Thu, 01 Jan 1970 00:00:00 GMT";
const LENGTH: usize = 29;

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
            let mut out = Vec::new();
            write(&mut out, now);
            assert_eq!(String::from_utf8(out).unwrap(), format!("date: {date}\r\n"));
        }
    }
}
