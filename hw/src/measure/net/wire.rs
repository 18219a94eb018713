//! What the two ends of a measurement say to each other: greetings of a fixed size, all numbers little-endian.
//!
//! ```text
//!   HELLO    magic (8)  form (2)  kind (1)    zero (1)  milliseconds (4)  run (8)      who measures, first on each connection
//!   WELCOME  magic (8)  form (2)  answer (1)  zero (1)  zero (4)          run (8)      the answer
//! ```

use std::time::Duration;

/// What a connection begins with.
const MAGIC: [u8; 8] = *b"fs-probe";
/// The number of this form of the greetings and what follows.
const FORM: u16 = 1;
/// Bytes of a greeting.
pub(super) const GREETING_BYTES: usize = 24;
/// Bytes of a message whose way there and back is timed.
pub(super) const PING_BYTES: usize = 64;
/// The first byte of such a message that is sent back.
pub(super) const PING: u8 = 1;
/// The first byte of the last one.
pub(super) const LAST: u8 = 2;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Small messages there and back; a measurement lasts as long as this connection.
    Control,
    /// Bytes to the server, which counts them.
    Upload,
    /// Bytes from the server.
    Download,
}

const KINDS: [Kind; 3] = [Kind::Control, Kind::Upload, Kind::Download];

/// What the server says to a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Begin.
    Ok,
    /// Another measurement is under way.
    Busy,
    /// No such measurement is under way.
    UnknownRun,
    /// That would take longer, or more connections, than is allowed.
    TooMuch,
    /// The greeting is of another form.
    OtherForm,
}

const ANSWERS: [Answer; 5] =
    [Answer::Ok, Answer::Busy, Answer::UnknownRun, Answer::TooMuch, Answer::OtherForm];

/// What who measures says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub kind: Kind,
    /// How long bytes are sent.
    pub time: Duration,
    /// The measurement that it belongs to; 0 for a new one.
    pub run: u64,
}

/// Why bytes are no greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoGreeting {
    /// They do not begin with the magic, or say what there is not.
    Stranger,
    /// They are of another form.
    OtherForm,
}

type Greeting = [u8; GREETING_BYTES];

fn compose(word: usize, millis: u32, run: u64) -> Greeting {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&FORM.to_le_bytes());
    bytes[10] = u8::try_from(word).expect("there are few");
    bytes[12..16].copy_from_slice(&millis.to_le_bytes());
    bytes[16..].copy_from_slice(&run.to_le_bytes());
    bytes
}

/// Its word, milliseconds and run.
fn take_apart(bytes: &Greeting) -> Result<(usize, u32, u64), NoGreeting> {
    let Some((form, rest)) = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.split_first_chunk()) else {
        return Err(NoGreeting::Stranger);
    };
    if u16::from_le_bytes(*form) != FORM {
        return Err(NoGreeting::OtherForm);
    }
    let (word, rest) = rest.split_first_chunk::<2>().ok_or(NoGreeting::Stranger)?;
    let (millis, run) = rest.split_first_chunk::<4>().ok_or(NoGreeting::Stranger)?;
    let run: [u8; 8] = run.try_into().map_err(|_| NoGreeting::Stranger)?;
    if word[1] != 0 {
        return Err(NoGreeting::Stranger);
    }
    Ok((word[0].into(), u32::from_le_bytes(*millis), u64::from_le_bytes(run)))
}

impl Hello {
    pub fn to_bytes(self) -> Greeting {
        let kind = KINDS.iter().position(|kind| *kind == self.kind).expect("all are listed");
        compose(kind, u32::try_from(self.time.as_millis()).unwrap_or(u32::MAX), self.run)
    }

    pub fn read(bytes: &Greeting) -> Result<Self, NoGreeting> {
        let (kind, millis, run) = take_apart(bytes)?;
        let kind = *KINDS.get(kind).ok_or(NoGreeting::Stranger)?;
        Ok(Self { kind, time: Duration::from_millis(millis.into()), run })
    }
}

pub(super) fn welcome(answer: Answer, run: u64) -> Greeting {
    compose(ANSWERS.iter().position(|listed| *listed == answer).expect("all are listed"), 0, run)
}

pub(super) fn read_welcome(bytes: &Greeting) -> Result<(Answer, u64), NoGreeting> {
    let (answer, _, run) = take_apart(bytes)?;
    Ok((*ANSWERS.get(answer).ok_or(NoGreeting::Stranger)?, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_read_back() {
        for kind in KINDS {
            let hello = Hello { kind, time: Duration::from_millis(2500), run: u64::MAX - 1 };
            assert_eq!(Hello::read(&hello.to_bytes()), Ok(hello));
        }
        for answer in ANSWERS {
            assert_eq!(read_welcome(&welcome(answer, 7)), Ok((answer, 7)));
        }
    }

    #[test]
    fn what_is_no_greeting_is_told_apart() {
        let hello = Hello { kind: Kind::Upload, time: Duration::from_secs(1), run: 1 }.to_bytes();
        let changed = |at: usize, byte: u8| {
            let mut bytes = hello;
            bytes[at] = byte;
            Hello::read(&bytes)
        };
        assert_eq!(
            Hello::read(b"GET / HTTP/1.1\r\nHost: x\r\n"[..24].try_into().unwrap()),
            Err(NoGreeting::Stranger)
        );
        assert_eq!(changed(0, b'x'), Err(NoGreeting::Stranger));
        assert_eq!(changed(8, 2), Err(NoGreeting::OtherForm));
        assert_eq!(changed(10, 3), Err(NoGreeting::Stranger));
        assert_eq!(changed(11, 1), Err(NoGreeting::Stranger));
        assert_eq!(read_welcome(&welcome(Answer::Ok, 0)).map(|(_, run)| run), Ok(0));
    }
}
