//! Packed frames from outside: what must hold of unpacking them, and changes that keep most of them as it should be.
//!
//! An input is two bytes and a packed frame: the first byte chooses the schema that the reader of the frame expects, the second
//! whether the envelope is *mended*, which makes magic, version, codec and the number of bytes that follow right: else hardly a
//! change of the length would get to the codec.

use std::sync::LazyLock;

use bytes::Bytes;
use firesteel_shuffle::FormatError;
use firesteel_shuffle::pack::{Codec, ENVELOPE_BYTES, FRAME_BYTES_MAX, pack, unpack};

use super::common::Numbers;
use super::counting::taken;
use super::frame::{aligned, put_u64, u64_at};
use super::{HEAD_BYTES, MEND_BIT, TRUST_BITS, TYPES, change, run, valid};

/// What unpacking may allocate beside the frame: what it is owned by, the text of an error.
const BESIDE_BYTES: usize = 4 << 10;
/// The largest frame that is read once it is unpacked: larger ones take longer and find no more.
const READ_BYTES_MAX: usize = 64 << 10;
/// The largest input: as of `change`.
const INPUT_BYTES_MAX: usize = 4096;
/// The least and the most rows of a frame that is made anew: it must be large enough to be packed.
const ROWS: [usize; 2] = [30, 330];

/// A frame that is known, as it is and packed in every way.
static KNOWN: LazyLock<(Bytes, Vec<Bytes>)> = LazyLock::new(|| {
    let frame = valid(u8::MAX, 0, 1, ROWS[0]).split_off(HEAD_BYTES);
    let packed = codecs().map(|codec| pack(codec, &frame).expect("strings and small numbers shrink"));
    let packed = packed.collect();
    (frame.into(), packed)
});

/// The codecs that can be run: an interpreter runs no C.
pub fn codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| !cfg!(miri) || *codec == Codec::Lz4)
}

/// An input that holds a frame of some rows as the encoder writes it, packed; none when it does not shrink.
#[must_use]
pub fn packed(choice: u8, codec: Codec, seed: u64, rows: usize) -> Option<Vec<u8>> {
    let frame = valid(choice, 0, seed, rows).split_off(HEAD_BYTES);
    Some([&[choice, 0][..], &pack(codec, &frame)?].concat())
}

/// Unpacks what may be a packed frame, and reads the frame in it as one that anybody may have written; tells whether it was
/// unpacked.
///
/// # Panics
/// When the reader is at fault.
pub fn run_packed(input: &[u8]) -> bool {
    let Some((&[choice, flags], packed)) = input.split_first_chunk::<HEAD_BYTES>() else { return false };
    let mut packed = packed.to_vec();
    if flags & MEND_BIT != 0 {
        mend(&mut packed);
    }
    if cfg!(miri) && packed.get(6) == Some(&2) {
        return false;
    }
    let (unpacked, taken) = taken(|| unpack(&aligned(&packed)));
    check(&packed, &unpacked, taken);
    let Ok(frame) = unpacked else {
        known_still_unpack();
        return false;
    };
    if frame.len() <= READ_BYTES_MAX {
        let _accepted = run(&[&[choice, TRUST_BITS][..], &frame].concat());
        // Its checksum is wrong unless nothing was changed: as somebody would who means harm.
        let _accepted = run(&[&[choice, TRUST_BITS | MEND_BIT][..], &frame].concat());
    }
    true
}

/// Makes all of the envelope right but the length of the frame.
fn mend(packed: &mut Vec<u8>) {
    packed.resize(packed.len().max(ENVELOPE_BYTES), 0);
    let codec = 1 + packed[6] % 2;
    packed[..8].copy_from_slice(&[b'F', b'S', b'P', b'1', 1, 0, codec, 0]);
    let following = (packed.len() - ENVELOPE_BYTES) as u64;
    put_u64(packed, 16, following);
}

/// Checks an outcome, and what it took of memory, by `FORMAT.md` and not by the code that is tested.
fn check(packed: &[u8], unpacked: &Result<Bytes, FormatError>, taken: usize) {
    let (said, following) = (u64_at(packed, 8), u64_at(packed, 16));
    let is_envelope =
        packed.len() >= ENVELOPE_BYTES && packed[..6] == *b"FSP1\x01\0" && matches!(packed[6..8], [1 | 2, 0]);
    let fault = unpacked.as_ref().err();
    let is_refused_as_packed = matches!(fault, Some(FormatError::Packed(_)));
    // The copy of the input that is unpacked is counted too.
    let beside = packed.len().next_multiple_of(64) + BESIDE_BYTES;
    if !is_envelope {
        assert!(is_refused_as_packed && taken <= beside, "no envelope: {fault:?}, {taken} bytes");
    } else if following != (packed.len() - ENVELOPE_BYTES) as u64 {
        let is_length = matches!(fault, Some(FormatError::Length { .. }));
        assert!(is_length && taken <= beside, "{following} bytes follow: {fault:?}, {taken} bytes");
    } else if !(following..=FRAME_BYTES_MAX as u64).contains(&said) {
        assert!(is_refused_as_packed && taken <= beside, "a frame of {said}: {fault:?}, {taken} bytes");
    } else {
        assert!(taken as u64 <= said + beside as u64, "{taken} bytes for a frame of {said}");
        match unpacked {
            Ok(frame) => assert_eq!(frame.len() as u64, said, "the frame has the bytes that are said"),
            Err(fault) => assert!(is_refused_as_packed, "{fault}"),
        }
    }
}

/// What is refused leaves nothing behind, in the thread's own state of a codec, that the next frame would suffer from.
fn known_still_unpack() {
    let (frame, packed) = &*KNOWN;
    assert!(packed.iter().all(|packed| unpack(packed).as_ref() == Ok(frame)), "a good frame after a bad one");
}

/// Changes a packed frame, the same way for the same seed.
pub fn change_packed(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.len() < HEAD_BYTES + ENVELOPE_BYTES || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = anew(n);
        return;
    }
    for _ in 0..=n.below(3) {
        change_once(input, n);
    }
}

fn anew(n: &mut Numbers) -> Vec<u8> {
    let codecs: Vec<_> = codecs().collect();
    loop {
        // Not all frames shrink; those of line items do.
        let choice = n.below(TYPES.len() + 20).min(TYPES.len()) as u8;
        let rows = ROWS[0] + n.below(ROWS[1] - ROWS[0]);
        let input = packed(choice, codecs[n.below(codecs.len())], n.next(), rows);
        if let Some(input) = input.filter(|input| input.len() <= INPUT_BYTES_MAX) {
            return input;
        }
    }
}

fn change_once(input: &mut Vec<u8>, n: &mut Numbers) {
    match n.below(16) {
        0 => input[0] = n.below(TYPES.len() + 1) as u8,
        1 | 2 => input[1] ^= MEND_BIT,
        3 | 4 => change_within(input, n),
        _ => {
            let mut packed = input.split_off(HEAD_BYTES);
            change_bytes(&mut packed, n);
            input.append(&mut packed);
        }
    }
}

/// Changes the frame, and packs it again.
fn change_within(input: &mut Vec<u8>, n: &mut Numbers) {
    let codecs: Vec<_> = codecs().collect();
    let Ok(frame) = unpack(&input[HEAD_BYTES..]) else { return };
    let mut whole = [&[input[0], 0][..], &frame].concat();
    change(&mut whole, n.next());
    if let Some(again) = pack(codecs[n.below(codecs.len())], &whole[HEAD_BYTES..]) {
        *input = [&[whole[0], input[1]][..], &again].concat();
    }
}

/// Changes some bytes, mostly of the envelope, or where they end.
fn change_bytes(packed: &mut Vec<u8>, n: &mut Numbers) {
    let length = packed.len();
    match n.below(8) {
        0 if length > 0 => packed.truncate(n.below(length)),
        1 => packed.push(n.next() as u8),
        // The length that is said follows what there is.
        2 | 3 if length >= ENVELOPE_BYTES => put_u64(packed, 16, (length - ENVELOPE_BYTES) as u64),
        4 if length >= ENVELOPE_BYTES => {
            let said = lie(u64_at(packed, 8), n);
            put_u64(packed, 8, said);
        }
        5 if length > 0 => packed[n.below(length.min(ENVELOPE_BYTES))] ^= 1 << n.below(8),
        _ if length > 0 => packed[n.below(length)] ^= 1 << n.below(8),
        _ => {}
    }
}

/// Another length of the frame than is said.
fn lie(said: u64, n: &mut Numbers) -> u64 {
    let edge = FRAME_BYTES_MAX as u64;
    let lies = [
        said.wrapping_add(1),
        said.wrapping_sub(1),
        said.wrapping_mul(2),
        n.next(),
        edge,
        edge + 1,
        u64::MAX,
    ];
    lies[n.below(lies.len())]
}
