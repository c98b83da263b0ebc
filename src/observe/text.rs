//! Text from clients on its way into a log line or a JSON body: quoted, and with every character escaped
//! that could start a line, move a cursor or turn the reading direction. Also the time as logs print it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

/// Appends `text` as a JSON string, quotes included.
pub fn push_json(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `text` as it is where it is one plain word, otherwise as a JSON string.
pub fn push_word(out: &mut String, text: &str) {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !text.is_empty() && text.bytes().all(plain) {
        out.push_str(text);
    } else {
        push_json(out, text);
    }
}

/// At most `max` bytes of `text`, cut between characters.
pub fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Appends `number` in decimal.
pub fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Appends `number` with at least three digits.
pub fn push_thousandths(out: &mut String, number: u64) {
    if number < 100 {
        out.push('0');
    }
    if number < 10 {
        out.push('0');
    }
    push_number(out, number);
}

/// Appends the time `since` the Unix epoch in RFC 3339, UTC, with milliseconds.
pub fn push_time(out: &mut String, since: Duration) {
    LAST_SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            render_second(text, *second);
        }
        out.push_str(text);
    });
    out.push('.');
    push_thousandths(out, u64::from(since.subsec_millis()));
    out.push('Z');
}

fn push_escaped(out: &mut String, text: &str) {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    // Without an early end, so that the compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String can not fail.
            _ if is_unsafe(character) => drop(write!(out, "\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
}

/// Controls (C0, DEL, C1), line separators, and the marks that reorder text on a screen.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `YYYY-MM-DDTHH:MM:SS`; the first second of 1970 where the calendar has none for it.
fn render_second(text: &mut String, second: u64) {
    let second = i64::try_from(second).unwrap_or_default();
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    text.clear();
    let _ = write!(text, "{time}");
    text.truncate("YYYY-MM-DDTHH:MM:SS".len());
}

thread_local! {
    /// The second that was rendered last, and its text: a busy thread renders one a second.
    static LAST_SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_text_it_reads_back_as_json_on_one_line() {
        for text in [
            "plain",
            "",
            "quote \" and \\",
            "line\r\nSet-Cookie: a",
            "\u{1b}[31m\0\u{7f}\u{85}",
            "中文 é",
            "\u{202e}evil\u{2028}",
        ] {
            let mut out = String::new();
            push_json(&mut out, text);
            assert_eq!(
                serde_json::from_str::<String>(&out).expect("valid JSON"),
                text
            );
            assert!(!out.chars().any(is_unsafe), "{out:?}");
        }
    }

    #[test]
    fn words_are_quoted_only_where_they_must_be() {
        for (text, word) in [
            ("GET", "GET"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a\n", "\"a\\n\""),
        ] {
            let mut out = String::new();
            push_word(&mut out, text);
            assert_eq!(out, word);
        }
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_234_567_890_007, "2009-02-13T23:31:30.007Z"),
            (1_234_567_890_999, "2009-02-13T23:31:30.999Z"),
            (1_234_567_891_000, "2009-02-13T23:31:31.000Z"),
        ] {
            let mut out = String::new();
            push_time(&mut out, Duration::from_millis(millis));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
        for (number, text) in [(0, "000"), (7, "007"), (42, "042"), (999, "999")] {
            let mut out = String::new();
            push_thousandths(&mut out, number);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn clipping_cuts_between_characters() {
        assert_eq!(clip("中文", 4), "中");
        assert_eq!(clip("ab", 4), "ab");
    }
}
