//! Follows the frames of one direction (RFC 6455 section 5.2): takes bytes in any split, tells where
//! frames end, and whether a message is whole there. Reads headers only and polices nothing: what is
//! wrong passes, so that both ends judge it as they would without us. Also writes frames of our own.

/// Follows one direction from its first byte behind the handshake.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    place: Place,
    message: Message,
    close: Close,
}

/// Where one direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Between two messages: any frame of ours may stand here.
    Between,
    /// Between two fragments of a message: a control frame of ours may stand here.
    Fragments,
    /// Inside a frame.
    Inside,
    /// The track is lost: nothing of ours may ever stand here.
    Lost,
}

/// Whether a close frame has passed: nothing may follow it (section 5.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// Not yet.
    #[default]
    Awaited,
    /// It has.
    Passed,
}

/// Who sends a frame: what a client sends is masked (section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A WebSocket client; towards the upstream that is the gateway.
    Client,
    /// A WebSocket server.
    Server,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// The beginning of a header and its length; no byte of it: at the end of a frame.
    Header([u8; LONGEST_HEADER], u8),
    /// How much of the frame is still to come, and the frame's first byte.
    Payload(u64, u8),
    Lost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Message {
    #[default]
    Whole,
    Fragmented,
}

/// What the first bytes of a frame are.
pub(super) enum Header {
    Partial,
    Whole { size: usize, payload: u64 },
    Impossible,
}

impl Follower {
    /// Goes on to the end of the next frame and gives its position; `None` when `bytes` end before, or
    /// when the track is lost. What stands behind the position is given again in the next call.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            match self.place {
                Place::Lost => return None,
                Place::Header(header, have) => {
                    at += self.read_header(header, have, &bytes[at..])?;
                }
                Place::Payload(left, first) => {
                    let rest = &bytes[at..];
                    match usize::try_from(left)
                        .ok()
                        .filter(|left| *left <= rest.len())
                    {
                        Some(left) => {
                            self.end_frame(first);
                            return Some(at + left);
                        }
                        None => {
                            self.place = Place::Payload(left - rest.len() as u64, first);
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// Goes on to the end of `bytes`.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(end) = self.advance(&bytes[at..]) {
            at += end;
        }
    }

    /// Where the direction stands now.
    pub fn standing(&self) -> Standing {
        match (self.place, self.message) {
            (Place::Lost, _) => Standing::Lost,
            (Place::Header(_, 0), Message::Whole) => Standing::Between,
            (Place::Header(_, 0), Message::Fragmented) => Standing::Fragments,
            _ => Standing::Inside,
        }
    }

    /// Whether a close frame has passed.
    pub fn close(&self) -> Close {
        self.close
    }

    /// Reads on in a header of which `have` bytes were there; how many of `bytes` it took. `None`: it is
    /// not whole yet, or it is none.
    fn read_header(
        &mut self,
        mut header: [u8; LONGEST_HEADER],
        have: u8,
        bytes: &[u8],
    ) -> Option<usize> {
        let have = usize::from(have);
        let taken = bytes.len().min(LONGEST_HEADER - have);
        header[have..have + taken].copy_from_slice(&bytes[..taken]);
        match parse_header(&header[..have + taken]) {
            Header::Whole { size, payload } => {
                self.place = Place::Payload(payload, header[0]);
                Some(size - have)
            }
            Header::Partial => {
                // A header is whole at its full length, so this is at most 13.
                self.place = Place::Header(header, (have + taken) as u8);
                None
            }
            Header::Impossible => {
                self.place = Place::Lost;
                None
            }
        }
    }

    fn end_frame(&mut self, first: u8) {
        self.place = Place::default();
        match (first & OPCODE, first & FIN) {
            (CLOSE, _) => self.close = Close::Passed,
            (control, _) if control & CONTROL != 0 => {}
            (_, 0) => self.message = Message::Fragmented,
            _ => self.message = Message::Whole,
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Header([0; LONGEST_HEADER], 0)
    }
}

/// Reads the beginning of a frame.
pub(super) fn parse_header(bytes: &[u8]) -> Header {
    let [_, second, rest @ ..] = bytes else {
        return Header::Partial;
    };
    let (extension, payload) = match second & !MASK {
        126 => (2, rest.first_chunk().map(|&b| u16::from_be_bytes(b).into())),
        127 => (8, rest.first_chunk().map(|&b| u64::from_be_bytes(b))),
        short => (0, Some(short.into())),
    };
    let key = if second & MASK == 0 { 0 } else { 4 };
    match payload {
        Some(payload) if payload >> 63 != 0 => Header::Impossible,
        Some(payload) if rest.len() >= extension + key => {
            let size = 2 + extension + key;
            Header::Whole { size, payload }
        }
        _ => Header::Partial,
    }
}

/// A text message of a server.
pub fn text(payload: &str) -> Vec<u8> {
    write(TEXT, payload.as_bytes(), Sender::Server)
}

/// A ping of a server; its payload tells its pong from others.
pub fn ping() -> Vec<u8> {
    write(PING, PING_PAYLOAD, Sender::Server)
}

/// A close frame with its code and reason. The reason is cut where the frame would be too long.
pub fn close(code: u16, reason: &str, sender: Sender) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(LONGEST_CONTROL - 2)];
    payload.extend_from_slice(reason);
    write(CLOSE, &payload, sender)
}

fn write(opcode: u8, payload: &[u8], sender: Sender) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LONGEST_HEADER + payload.len());
    frame.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if usize::from(short) <= LONGEST_CONTROL => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if sender == Sender::Server {
        frame.extend_from_slice(payload);
        return frame;
    }
    let mut key = [0; 4];
    // The key keeps a page's script from choosing the bytes on the wire (section 10.3). None of this
    // payload is a script's, so a machine without randomness may as well send it plain.
    let _ = getrandom::fill(&mut key);
    frame[1] |= MASK;
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    frame
}

/// What a ping of ours carries.
pub const PING_PAYLOAD: &[u8] = b"portcullis";
/// The first byte's last-fragment bit.
pub const FIN: u8 = 0x80;
/// The second byte's mask bit.
pub const MASK: u8 = 0x80;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;
pub(super) const OPCODE: u8 = 0xf;
pub(super) const CONTROL: u8 = 0x8;
pub(super) const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(super) const LONGEST_HEADER: usize = 14;
const LONGEST_CONTROL: usize = 125;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Ends = Vec<(usize, Standing)>;

    /// The ends of all frames in `chunks` with the standing at each, and the standing at last.
    fn follow(chunks: &[&[u8]]) -> (Ends, Standing, Close) {
        let mut follower = Follower::default();
        let (mut passed, mut ends) = (0, Vec::new());
        for chunk in chunks {
            let mut at = 0;
            while let Some(end) = follower.advance(&chunk[at..]) {
                at += end;
                ends.push((passed + at, follower.standing()));
            }
            passed += chunk.len();
        }
        (ends, follower.standing(), follower.close())
    }

    #[test]
    fn frames_end_where_their_length_says() {
        use Standing::{Between, Fragments, Inside, Lost};
        let long = |header: &[u8], payload: usize| [header, &vec![7; payload]].concat();
        let masked = [0x82, 0x83, 1, 2, 3, 4, 9, 9, 9];
        let table: Vec<(Vec<u8>, Ends, Standing)> = vec![
            (vec![], vec![], Between),
            (vec![0x81], vec![], Inside),
            (vec![0x81, 0], vec![(2, Between)], Between),
            (masked.to_vec(), vec![(9, Between)], Between),
            (masked[..8].to_vec(), vec![], Inside),
            (
                long(&[0x82, 126, 0, 200], 200),
                vec![(204, Between)],
                Between,
            ),
            (
                long(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65536),
                vec![(65546, Between)],
                Between,
            ),
            (
                vec![0x01, 0, 0x89, 0, 0x00, 0, 0x80, 0],
                vec![(2, Fragments), (4, Fragments), (6, Fragments), (8, Between)],
                Between,
            ),
            (
                vec![0xf3, 0, 0x8f, 1, 0],
                vec![(2, Between), (5, Between)],
                Between,
            ),
            (
                vec![0x09, 0, 0x81, 0],
                vec![(2, Between), (4, Between)],
                Between,
            ),
            (vec![0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1], vec![], Lost),
            (
                vec![0x81, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1],
                vec![],
                Inside,
            ),
        ];
        for (bytes, ends, standing) in table {
            let (found, at_last, _) = follow(&[&bytes]);
            assert_eq!(
                (found, at_last),
                (ends, standing),
                "{}",
                bytes[..bytes.len().min(16)].escape_ascii()
            );
        }
    }

    #[test]
    fn a_close_frame_is_seen_when_it_is_whole() {
        let close = close(4401, "auth_expired", Sender::Client);
        assert_eq!(follow(&[&close[..close.len() - 1]]).2, Close::Awaited);
        assert_eq!(follow(&[&close]).2, Close::Passed);
    }

    #[test]
    fn our_frames_are_well_formed() {
        assert_eq!(text("hi"), [0x81, 2, b'h', b'i']);
        assert_eq!(text(&"x".repeat(126))[..4], [0x81, 126, 0, 126]);
        assert_eq!(
            text(&"x".repeat(65536))[..10],
            [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
        assert_eq!(ping()[..3], [0x89, 10, b'p']);
        assert_eq!(close(1012, "", Sender::Server), [0x88, 2, 0x03, 0xf4]);
        assert_eq!(
            close(1000, &"\u{4f60}".repeat(99), Sender::Server).len(),
            2 + 2 + 123
        );
        let masked = close(4401, "w", Sender::Client);
        assert_eq!(masked[..2], [0x88, 0x83]);
        let plain: Vec<u8> = (0..3).map(|at| masked[6 + at] ^ masked[2 + at]).collect();
        assert_eq!(plain, [0x11, 0x31, b'w']);
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let size = prop_oneof![0usize..8, 120usize..132, 65530usize..65540];
        (any::<u8>(), any::<bool>(), size).prop_map(|(first, masked, size)| {
            let sender = if masked {
                Sender::Client
            } else {
                Sender::Server
            };
            let mut frame = write(TEXT, &vec![7; size], sender);
            frame[0] = first;
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_split_finds_the_same_frames(
            frames in vec(any_frame(), 0..5),
            cuts in vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let bytes = frames.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = follow(&[&bytes]);
            prop_assert_eq!(whole.0.len(), frames.len());
            prop_assert_eq!(follow(&chunks), whole);
        }

        #[test]
        fn any_bytes_in_any_split_stand_alike(bytes in vec(any::<u8>(), 0..300)) {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(follow(&single), follow(&[&bytes]));
        }
    }
}
