//! Where events end (HTML living standard, 9.2.6): a blank line, with lines ended by `\n`, `\r` or
//! `\r\n` in any mixture. Takes bytes in any split, gives positions, keeps two bytes of state.

use memchr::memchr2;

/// Follows one stream from its first byte.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    place: Place,
    /// The last byte was `\r`: a `\n` that follows belongs to it.
    after_cr: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    LineStart,
    InLine,
}

impl Splitter {
    /// Goes on to the end of the next event, blank line included, and gives its position; `None` when
    /// `bytes` end before. What stands behind the position is given again in the next call.
    ///
    /// An event counts as ended at the `\r` of a `\r\n` that is split across two calls; its `\n` is
    /// then an end of its own.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = *bytes.first()?;
        let mut at = 0;
        if std::mem::take(&mut self.after_cr) && first == b'\n' {
            at = 1;
            if self.place == Place::Between {
                return Some(1);
            }
        }
        while at < bytes.len() {
            let Some(line) = memchr2(b'\n', b'\r', &bytes[at..]) else {
                self.place = Place::InLine;
                return None;
            };
            let blank = line == 0 && self.place != Place::InLine;
            at = self.end_line(bytes, at + line);
            if blank {
                self.place = Place::Between;
                return Some(at);
            }
            self.place = Place::LineStart;
        }
        None
    }

    /// The position behind the line end at `at`.
    fn end_line(&mut self, bytes: &[u8], at: usize) -> usize {
        match (bytes[at], bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => at + 2,
            (b'\r', None) => {
                self.after_cr = true;
                at + 1
            }
            _ => at + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Every event of `chunks`, by the bytes up to each end.
    fn ends(chunks: &[&[u8]]) -> Vec<usize> {
        let mut splitter = Splitter::default();
        let mut passed = 0;
        let mut ends = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            while let Some(end) = splitter.advance(&chunk[at..]) {
                at += end;
                ends.push(passed + at);
            }
            passed += chunk.len();
        }
        ends
    }

    #[test]
    fn an_event_ends_at_its_blank_line() {
        let table: &[(&[u8], &[usize])] = &[
            (b"", &[]),
            (b"data: a", &[]),
            (b"data: a\n", &[]),
            (b"data: a\n\n", &[9]),
            (b"data: a\r\r", &[9]),
            (b"data: a\r\n\r\n", &[11]),
            (b"data: a\n\r\n", &[10]),
            (b"data: a\r\n\n", &[10]),
            (b"data: a\r\n\r", &[10]),
            (b"data: a\n\r", &[9]),
            (b"a\n\nb\r\rc\r\n\r\nd", &[3, 6, 11]),
            (b"\n\n\n", &[1, 2, 3]),
            (b"\r\n\r\n", &[2, 4]),
            (b": ping\n\ndata: b\n\n", &[8, 17]),
        ];
        for (bytes, expected) in table {
            assert_eq!(ends(&[bytes]), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_split_crlf_ends_one_line() {
        assert_eq!(ends(&[b"a\r", b"\nb\r\n\r\n"]), [8]);
        assert_eq!(ends(&[b"a\r", b"", b"\nb\r\n\r\n"]), [8]);
        assert_eq!(ends(&[b"a\r\n\r", b"\nb\n\n"]), [4, 5, 8]);
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_ends(
            text in "[a\r\n]{0,40}",
            cuts in vec(0usize..40, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let split = ends(&chunks);
            let whole = ends(&[bytes]);
            // A `\r\n` that is cut in two gives an end at either byte.
            for end in &whole {
                prop_assert!(split.contains(end), "{end} of {whole:?} is not in {split:?}");
            }
            for end in &split {
                let halved = bytes[end - 1] == b'\r' && bytes.get(*end) == Some(&b'\n');
                prop_assert!(whole.contains(end) || halved && whole.contains(&(end + 1)));
            }
        }
    }
}
