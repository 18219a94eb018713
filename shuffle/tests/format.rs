//! Frames hold what was written, in every type; bytes that are no frame are an error.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::*;
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat;
use arrow_select::take::take;
use bytes::Bytes;
use common::{Numbers, array, assert_same, flat_types, line_items, nested_type, one_column};
use firesteel_shuffle::FormatError;
use firesteel_shuffle::format::{Decoder, FramePlan, PREFIX_BYTES, Piece, Rows, Trust, encode, fingerprint};
use proptest::prelude::*;

/// Any type, nested up to two levels deep.
fn any_type() -> impl Strategy<Value = DataType> {
    let flat = prop::sample::select(flat_types());
    let one =
        (any::<usize>(), flat.clone(), flat.clone()).prop_map(|(number, a, b)| nested_type(number, a, b));
    let two =
        (any::<usize>(), one.clone(), flat.clone()).prop_map(|(number, a, b)| nested_type(number, a, b));
    prop_oneof![2 => flat, 3 => one, 2 => two]
}

fn decode(frame: &Bytes, schema: &Arc<Schema>, trust: Trust) -> Result<RecordBatch, FormatError> {
    Decoder::new(Arc::clone(schema)).decode(frame, trust)
}

/// The bytes at a multiple of 64 again, as memory from outside may not be.
fn aligned(bytes: &[u8]) -> Bytes {
    let mut buffer = arrow_buffer::MutableBuffer::new(bytes.len());
    buffer.extend_from_slice(bytes);
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(buffer.into()))
}

/// Makes the checksum right again, as somebody would who means harm.
fn sign(frame: &mut [u8]) {
    if frame.len() >= PREFIX_BYTES {
        let checksum = xxhash_rust::xxh3::xxh3_64(&frame[16..]);
        frame[8..16].copy_from_slice(&checksum.to_le_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 600 }, ..ProptestConfig::default() })]

    #[test]
    fn every_type_round_trips_sliced_or_whole(
        data_type in any_type(), seed in any::<u64>(), len in 0_usize..70, from in 0_usize..70, to in 0_usize..70,
    ) {
        let whole = array(&mut Numbers::new(seed), &data_type, len);
        let (from, to) = (from.min(len), to.min(len));
        let sliced = whole.slice(from.min(to), to.abs_diff(from));
        for expected in [whole, sliced] {
            let batch = one_column(expected);
            let frame = encode(&batch).unwrap();
            for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
                let found = decode(&frame, &batch.schema(), trust).unwrap();
                assert_same(found.column(0), batch.column(0));
            }
        }
    }

    #[test]
    fn rows_gathered_from_several_batches_are_those_that_arrow_takes(
        data_type in any_type(), seed in any::<u64>(), lens in prop::collection::vec(1_usize..40, 1..4),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0_usize..30), 1..5),
    ) {
        let mut n = Numbers::new(seed);
        let batches: Vec<_> = lens.iter().map(|len| one_column(array(&mut n, &data_type, *len))).collect();
        let mut chosen = Vec::new();
        let mut indices = Vec::new();
        for (index, range, count) in &picks {
            let batch = &batches[index.index(batches.len())];
            let rows = batch.num_rows();
            indices.push((batch, *range, (0..*count).map(|_| n.below(rows) as u32).collect::<Vec<_>>()));
        }
        let mut expected = Vec::new();
        for (batch, range, rows) in &indices {
            if *range {
                let start = rows.first().copied().unwrap_or(0) as usize;
                let len = rows.len().min(batch.num_rows() - start);
                chosen.push(Piece { batch, rows: Rows::Range { start, len } });
                expected.push(batch.column(0).slice(start, len));
            } else {
                chosen.push(Piece { batch, rows: Rows::Take(rows) });
                expected.push(take(batch.column(0), &UInt32Array::from(rows.clone()), None).unwrap());
            }
        }
        let expected: Vec<&dyn Array> = expected.iter().map(AsRef::as_ref).collect();
        let schema = batches[0].schema();
        // Arrow tells of too many values for a dictionary's keys by an error or, inside of lists, by a panic.
        let expected = catch_unwind(AssertUnwindSafe(|| concat(&expected)));
        match (FramePlan::new(fingerprint(&schema), &chosen), expected) {
            (Ok(plan), Ok(Ok(expected))) => {
                let bytes = plan.frame_bytes();
                let frame = plan.encode(None);
                prop_assert_eq!(frame.len(), bytes);
                let found = decode(&frame, &schema, Trust::Outside).unwrap();
                assert_same(found.column(0), &expected);
            }
            // Keys of eight bits do not hold the values of several dictionaries; the writer then cuts the frame.
            (plan, expected) => {
                let (plan, expected) = (plan.map(|_| ()), expected.map(|taken| taken.map(|_| ())));
                prop_assert!(has_dictionary(&data_type), "{:?} {:?}", plan, expected);
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed(seed in any::<u64>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let batch = line_items(seed, 50);
        let mut frame = encode(&batch).unwrap().to_vec();
        prop_assert_eq!(decode(&aligned(&frame), &batch.schema(), Trust::Cluster), Ok(batch.clone()));
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let fault = decode(&aligned(&frame), &batch.schema(), Trust::Cluster);
        prop_assert!(fault.is_err(), "byte {at}");
    }

    #[test]
    fn hostile_frames_are_an_error_or_valid_arrays(
        data_type in any_type(), seed in any::<u64>(), len in 0_usize..30,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        only_header in any::<bool>(),
    ) {
        let batch = one_column(array(&mut Numbers::new(seed), &data_type, len));
        let mut frame = encode(&batch).unwrap().to_vec();
        let header = u32::from_le_bytes(frame[16..20].try_into().unwrap()) as usize;
        for (at, byte) in &changes {
            let range = if only_header { PREFIX_BYTES + header } else { frame.len() };
            frame[at.index(range)] = *byte;
        }
        sign(&mut frame);
        let frame = aligned(&frame);
        // Resident and Cluster trust the values, but no structure may make them panic or allocate without bound.
        let _ = decode(&frame, &batch.schema(), Trust::Cluster);
        if let Ok(found) = decode(&frame, &batch.schema(), Trust::Outside) {
            found.column(0).to_data().validate_full().unwrap();
            prop_assert!(found.num_rows() == 0 || found.column(0).slice(0, 1).len() == 1);
        }
    }

    #[test]
    fn random_bytes_are_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300), plausible in any::<bool>()) {
        if plausible && bytes.len() >= PREFIX_BYTES {
            bytes[..8].copy_from_slice(b"FSF1\x01\0\0\0");
            let header = (bytes.len() - PREFIX_BYTES) as u32 / 2;
            bytes[16..20].copy_from_slice(&header.to_le_bytes());
            bytes[20..24].fill(0);
            let payload = (bytes.len() as u64).saturating_sub((PREFIX_BYTES as u64 + u64::from(header)).next_multiple_of(64));
            bytes[24..32].copy_from_slice(&payload.to_le_bytes());
            sign(&mut bytes);
        }
        let schema = line_items(1, 1).schema();
        for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
            prop_assert!(decode(&aligned(&bytes), &schema, trust).is_err());
        }
    }

    #[test]
    fn a_frame_that_is_cut_short_or_too_long_is_an_error(seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let batch = line_items(seed, 20);
        let frame = encode(&batch).unwrap();
        let cut = at.index(frame.len());
        prop_assert!(decode(&aligned(&frame[..cut]), &batch.schema(), Trust::Resident).is_err());
        let mut long = frame.to_vec();
        long.push(0);
        let fault = decode(&aligned(&long), &batch.schema(), Trust::Resident).unwrap_err();
        let is_length = matches!(fault, FormatError::Length { .. });
        prop_assert!(is_length, "{}", fault);
    }
}

fn has_dictionary(data_type: &DataType) -> bool {
    data_type.to_string().contains("Dictionary")
}

#[test]
fn a_frame_of_another_version_or_kind_says_so() {
    let batch = line_items(1, 10);
    let frame = encode(&batch).unwrap();
    let mut other = frame.to_vec();
    other[4] = 9;
    assert_eq!(
        decode(&aligned(&other), &batch.schema(), Trust::Cluster),
        Err(FormatError::Version { found: 9 })
    );
    other[..4].copy_from_slice(b"ARRO");
    assert!(matches!(
        decode(&aligned(&other), &batch.schema(), Trust::Cluster),
        Err(FormatError::Magic { .. })
    ));
}

#[test]
fn a_frame_of_another_schema_says_so() {
    let frame = encode(&line_items(1, 10)).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]));
    assert!(matches!(decode(&frame, &schema, Trust::Cluster), Err(FormatError::Schema { .. })));
}

#[test]
fn a_batch_without_columns_keeps_its_rows() {
    let schema = Arc::new(Schema::empty());
    let options = RecordBatchOptions::new().with_row_count(Some(17));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options).unwrap();
    assert_eq!(decode(&encode(&batch).unwrap(), &schema, Trust::Outside).unwrap().num_rows(), 17);
}

#[test]
fn decoding_copies_nothing() {
    let batch = line_items(1, 1000);
    let frame = encode(&batch).unwrap();
    let inside = frame.as_ptr_range();
    let found = decode(&frame, &batch.schema(), Trust::Cluster).unwrap();
    for column in found.columns() {
        for buffer in column.to_data().buffers() {
            assert!(buffer.is_empty() || inside.contains(&buffer.as_ptr()));
            assert_eq!(buffer.as_ptr().align_offset(64), 0);
        }
    }
    // Accounting by array must not count the whole frame once a column.
    assert!(found.get_array_memory_size() < 2 * frame.len(), "{}", found.get_array_memory_size());
}

#[test]
fn slices_take_only_what_they_use() {
    let batch = line_items(1, 10_000);
    let whole = encode(&batch).unwrap().len();
    let slice = encode(&batch.slice(5000, 100)).unwrap().len();
    assert!(slice < whole / 50, "{slice} of {whole}");
}

#[test]
fn sparse_views_leave_what_no_row_uses() {
    let long: StringViewArray =
        (0..1000).map(|i| Some(format!("a comment that is rather long, number {i}"))).collect();
    let sparse = take(&long, &UInt32Array::from(vec![3, 999]), None).unwrap();
    let batch = one_column(sparse);
    let frame = encode(&batch).unwrap();
    assert!(frame.len() < 600, "{}", frame.len());
    let found = decode(&frame, &batch.schema(), Trust::Outside).unwrap();
    assert_same(found.column(0), batch.column(0));
}

#[test]
fn views_that_share_a_string_do_not_multiply_it() {
    let word = "the same long word in every row, written once".to_owned();
    let mut builder = builder::StringViewBuilder::new().with_deduplicate_strings();
    (0..1000).for_each(|_| builder.append_value(&word));
    let batch = one_column(Arc::new(builder.finish()));
    let frame = encode(&batch).unwrap();
    assert!(frame.len() < 1000 * 16 + 600, "{}", frame.len());
    assert_same(decode(&frame, &batch.schema(), Trust::Outside).unwrap().column(0), batch.column(0));
}

#[test]
fn a_large_dictionary_is_cut_down_to_the_values_in_use() {
    let values: StringArray = (0..10_000).map(|i| Some(format!("value {i}"))).collect();
    let keys = Int32Array::from(vec![Some(9_999), None, Some(5), Some(9_999)]);
    let batch = one_column(Arc::new(DictionaryArray::new(keys, Arc::new(values))));
    let frame = encode(&batch).unwrap();
    assert!(frame.len() < 1000, "{}", frame.len());
    let found = decode(&frame, &batch.schema(), Trust::Outside).unwrap();
    let found = found.column(0).as_dictionary::<types::Int32Type>();
    let texts: Vec<_> = found.downcast_dict::<StringArray>().unwrap().into_iter().collect();
    assert_eq!(texts, vec![Some("value 9999"), None, Some("value 5"), Some("value 9999")]);
}

#[test]
fn the_bytes_of_version_2_stay_as_they_are() {
    let batch = RecordBatch::try_from_iter(vec![
        ("n", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
        ("t", Arc::new(StringArray::from(vec!["ab", "", "c"]))),
    ])
    .unwrap();
    let frame = encode(&batch).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().unwrap());
    assert_eq!((&frame[..4], u32_at(4)), (&b"FSF1"[..], 2));
    let header_end = PREFIX_BYTES + u32_at(16) as usize;
    assert_eq!(u64_at(24) as usize, frame.len() - header_end.next_multiple_of(64));
    // The root lies at the header's end: fingerprint, rows, codec, then two relative pointers with lengths.
    let root = header_end - 40;
    assert_eq!((u64_at(root), u64_at(root + 8), u64_at(root + 16)), (fingerprint(&batch.schema()), 3, 0));
    let list = |at: usize| (at.wrapping_add_signed(u32_at(at) as i32 as isize), u32_at(at + 4));
    let (nodes, spans) = (list(root + 24), list(root + 32));
    assert_eq!((nodes.1, spans.1), (2, 5));
    let node = |i: usize| [0, 8, 16].map(|at| u64_at(nodes.0 + 24 * i + at));
    assert_eq!((node(0), node(1)), ([3, 1, 0], [3, 0, 0]));
    let span = |i: usize| [0, 8].map(|at| u64_at(spans.0 + 16 * i + at));
    // n: bitmap, values. t: no bitmap, offsets, text.
    assert_eq!([0, 1, 2, 3, 4].map(span), [[0, 1], [64, 12], [128, 0], [128, 16], [192, 3]]);
    let payload = header_end.next_multiple_of(64);
    assert_eq!(frame[payload], 0b101);
    assert_eq!(&frame[payload + 192..payload + 195], b"abc");
    assert_eq!(format!("{:#018x}", u64_at(8)), "0x169ad192b64b0973");
}
