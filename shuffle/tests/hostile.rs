//! Bytes that somebody made to do harm: every byte of small frames of every type is changed in turn, with the checksum made right
//! again so that deeper checks are reached. A reader answers with an error or with arrays that are valid to the last value; it
//! never panics and never allocates more than the frame's own size and a little for what describes it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;
mod counting;

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_schema::DataType;
use bytes::Bytes;
use common::{Numbers, array, flat_types, line_items, nested_type, one_column};
use counting::taken;
use firesteel_shuffle::FormatError;
use firesteel_shuffle::format::{Decoder, PREFIX_BYTES, Trust, encode};
use proptest::prelude::*;

/// What a reader may allocate beside a frame's size: arrays, their types, the text of an error.
const BESIDE_BYTES: usize = 32 << 10;

/// The bytes at a multiple of 64, as a reader demands it.
fn aligned(bytes: &[u8]) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut buffer = MutableBuffer::new(bytes.len());
    buffer.extend_from_slice(bytes);
    Bytes::from_owner(Owner(buffer.into()))
}

/// Makes the checksum right again.
fn sign(frame: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&frame[16..]);
    frame[8..16].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a frame; panics, naming `what`, when the reader does, or allocates too much.
fn decode(
    decoder: &Decoder,
    frame: &Bytes,
    trust: Trust,
    what: &dyn Fn() -> String,
) -> Result<RecordBatch, FormatError> {
    let (found, taken) = taken(|| catch_unwind(AssertUnwindSafe(|| decoder.decode(frame, trust))));
    assert!(taken <= frame.len() + BESIDE_BYTES, "{}: {taken} bytes for {}", what(), frame.len());
    found.unwrap_or_else(|_| panic!("{}: the reader panicked", what()))
}

/// Uses every value of arrays that were accepted.
fn use_all(batch: &RecordBatch, what: &dyn Fn() -> String) {
    let used = catch_unwind(AssertUnwindSafe(|| {
        for column in batch.columns() {
            let data = column.to_data();
            data.validate_full().unwrap();
            // Runs and nulls may be of very many rows without a byte for each.
            let rows = column.len().min(1000);
            for row in 0..rows {
                let one = column.slice(row, 1).to_data();
                black_box(one == column.slice(row, 1).to_data());
            }
        }
        // And an accepted frame can be written again, which copies all that its arrays point to.
        if batch.num_rows() <= 1000 {
            encode(batch).unwrap();
        }
    }));
    used.unwrap_or_else(|_| panic!("{}: it was accepted and cannot be used", what()));
}

/// Changes a byte in ways that turn signs, small numbers and large ones around.
const CHANGES: [fn(u8) -> u8; 4] = [|b| b ^ 1, |b| b ^ 0x80, |b| !b, |b| b.wrapping_add(7)];

fn sweep(data_type: &DataType, seed: u64, rows: usize) {
    let batch = one_column(array(&mut Numbers::new(seed), data_type, rows));
    let frame = encode(&batch).unwrap();
    let decoder = Decoder::new(batch.schema());
    for at in (0..frame.len()).step_by(STEP) {
        for (number, change) in CHANGES.iter().enumerate() {
            let mut changed = frame.to_vec();
            changed[at] = change(changed[at]);
            if at >= 16 {
                sign(&mut changed);
            }
            let changed = aligned(&changed);
            let what = || format!("{data_type}, change {number} of byte {at} of {}", frame.len());
            // Inside the cluster values are trusted, but no structure may make a reader panic.
            let inside = decode(&decoder, &changed, Trust::Cluster, &what);
            let outside = decode(&decoder, &changed, Trust::Outside, &what);
            assert!(inside.is_ok() || outside.is_err(), "{}: refused only inside", what());
            assert!(at >= 16 || outside.is_err(), "{}: the prefix was changed", what());
            if let Ok(found) = outside {
                use_all(&found, &what);
            }
        }
    }
}

const ROWS: usize = if cfg!(miri) { 2 } else { 5 };
/// An interpreter takes only each so many'th byte: a prime number, so that all bytes of a word have their turn.
const STEP: usize = if cfg!(miri) { 61 } else { 1 };

#[test]
fn every_byte_of_a_frame_of_each_flat_type_may_be_wrong() {
    let types = flat_types();
    types.iter().for_each(|data_type| sweep(data_type, 3, ROWS));
}

#[test]
fn every_byte_of_a_frame_of_strings_may_be_wrong() {
    // From these seeds there are nulls, empty, short and long strings, and views that share them.
    for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::BinaryView] {
        (10..14).for_each(|seed| sweep(&data_type, seed, ROWS * 2));
    }
}

#[test]
fn every_byte_of_a_frame_of_each_nested_type_may_be_wrong() {
    for number in 0..14 {
        sweep(&nested_type(number, DataType::Utf8, DataType::Int16), 5, ROWS);
        sweep(&nested_type(number, DataType::Utf8View, DataType::Boolean), 6, ROWS);
    }
}

#[test]
fn every_byte_of_a_frame_of_types_nested_twice_may_be_wrong() {
    for number in 0..14 {
        let inner = nested_type(number, DataType::Binary, DataType::Int32);
        (0..9).step_by(2).for_each(|outer| sweep(&nested_type(outer, inner.clone(), DataType::Int8), 7, 3));
    }
}

#[test]
fn a_frame_without_rows_may_be_wrong() {
    for data_type in
        flat_types().into_iter().chain((0..14).map(|n| nested_type(n, DataType::Utf8, DataType::Utf8View)))
    {
        sweep(&data_type, 1, 0);
    }
}

/// A frame of views without a row, whose header names so many data buffers of so many bytes.
fn frame_of_data_buffers(count: usize, bytes: usize) -> Vec<u8> {
    let batch = one_column(new_empty_array(&DataType::Utf8View));
    let valid = encode(&batch).unwrap();
    let header = u32::from_le_bytes(valid[16..20].try_into().unwrap()) as usize;
    let root = PREFIX_BYTES + header - 40;
    // The node, then the spans: of validity, of views, of data; then the root.
    let spans = count + 2;
    let header_bytes = 24 + 16 * spans + 40;
    let payload = (PREFIX_BYTES + header_bytes).next_multiple_of(64);
    let mut frame = vec![0; payload + count * bytes.next_multiple_of(64)];
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &valid[..PREFIX_BYTES]);
    put(16, &(header_bytes as u32).to_le_bytes());
    put(24, &((count * bytes.next_multiple_of(64)) as u64).to_le_bytes());
    put(PREFIX_BYTES + 16, &(count as u64).to_le_bytes());
    for span in 0..count {
        let at = PREFIX_BYTES + 24 + 16 * (span + 2);
        put(at, &((span * bytes.next_multiple_of(64)) as u64).to_le_bytes());
        put(at + 8, &(bytes as u64).to_le_bytes());
    }
    let list = |at: usize, first: usize, count: usize| {
        [(first as i32 - at as i32).to_le_bytes(), (count as u32).to_le_bytes()].concat()
    };
    let new_root = PREFIX_BYTES + header_bytes - 40;
    put(new_root, &valid[root..root + 24]);
    put(new_root + 24, &list(new_root + 24, PREFIX_BYTES, 1));
    put(new_root + 32, &list(new_root + 32, PREFIX_BYTES + 24, spans));
    sign(&mut frame);
    frame
}

/// A span of a header is 16 bytes; what Arrow keeps for a buffer is more.
#[test]
fn very_many_data_buffers_take_no_more_than_a_small_multiple_of_their_frame() {
    let decoder = Decoder::new(one_column(new_empty_array(&DataType::Utf8View)).schema());
    for bytes in [0, 1] {
        let frame = aligned(&frame_of_data_buffers(if cfg!(miri) { 50 } else { 50_000 }, bytes));
        for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
            let (found, taken) = taken(|| decoder.decode(&frame, trust));
            assert_eq!(found.unwrap().num_rows(), 0);
            assert!(taken <= 4 * frame.len() + BESIDE_BYTES, "{taken} bytes for {}", frame.len());
        }
    }
    // More than the header names.
    let mut frame = frame_of_data_buffers(3, 0);
    frame[PREFIX_BYTES + 16..PREFIX_BYTES + 24].copy_from_slice(&u64::MAX.to_le_bytes());
    sign(&mut frame);
    assert!(decoder.decode(&aligned(&frame), Trust::Resident).is_err());
}

/// Numbers that lengths, offsets and counts may be replaced by.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 24),
        Just((1 << 24) + 1),
        Just(i32::MAX as u64),
        Just(1 << 31),
        Just(1 << 32),
        Just(1 << 63),
        0_u64..200,
        any::<u64>(),
        any::<u64>().prop_map(|n| n & !63),
        any::<u64>().prop_map(|n| (n % 4096) & !63),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 3000 }, ..ProptestConfig::default() })]

    #[test]
    fn numbers_of_a_header_may_be_any(
        type_number in 0_usize..53, seed in any::<u64>(), rows in 0_usize..20,
        changes in prop::collection::vec((any::<prop::sample::Index>(), number()), 1..5), narrow in any::<bool>(),
    ) {
        let flat = flat_types();
        let data_type = flat
            .get(type_number)
            .cloned()
            .unwrap_or_else(|| nested_type(type_number, DataType::Utf8View, DataType::Binary));
        let batch = one_column(array(&mut Numbers::new(seed), &data_type, rows));
        let mut frame = encode(&batch).unwrap().to_vec();
        let header = u32::from_le_bytes(frame[16..20].try_into().unwrap()) as usize;
        for (index, number) in &changes {
            // A number of the header, or of the first values.
            let words = ((PREFIX_BYTES + header) / 8 - 2).max(1);
            let at = 16 + 8 * index.index(words);
            let bytes = number.to_le_bytes();
            let width = if narrow { 4 } else { 8 };
            frame[at..at + width].copy_from_slice(&bytes[..width]);
        }
        sign(&mut frame);
        let frame = aligned(&frame);
        let decoder = Decoder::new(batch.schema());
        let what = || format!("{data_type}, {changes:?}");
        let _ = decode(&decoder, &frame, Trust::Resident, &what);
        let _ = decode(&decoder, &frame, Trust::Cluster, &what);
        if let Ok(found) = decode(&decoder, &frame, Trust::Outside, &what) {
            use_all(&found, &what);
        }
    }

    #[test]
    fn a_frame_of_one_type_is_none_of_another(from in 0_usize..39, to in 0_usize..39, seed in any::<u64>()) {
        let types = flat_types();
        let batch = one_column(array(&mut Numbers::new(seed), &types[from], 4));
        let other = one_column(array(&mut Numbers::new(seed), &types[to], 4)).schema();
        let mut frame = encode(&batch).unwrap().to_vec();
        // With the fingerprint of the other type, as if its columns were of that.
        let header = u32::from_le_bytes(frame[16..20].try_into().unwrap()) as usize;
        let root = PREFIX_BYTES + header - 40;
        let print = firesteel_shuffle::format::fingerprint(&other);
        frame[root..root + 8].copy_from_slice(&print.to_le_bytes());
        sign(&mut frame);
        let what = || format!("{} as {}", types[from], types[to]);
        let decoder = Decoder::new(Arc::clone(&other));
        if let Ok(found) = decode(&decoder, &aligned(&frame), Trust::Outside, &what) {
            use_all(&found, &what);
        }
    }

    #[test]
    fn any_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let decoder = Decoder::new(line_items(1, 1).schema());
        for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
            let found = decode(&decoder, &aligned(&bytes), trust, &|| format!("{bytes:?}"));
            prop_assert!(found.is_err());
        }
    }
}
