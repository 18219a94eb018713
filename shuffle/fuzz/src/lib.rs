//! What is fuzzed, how inputs come about, and what must hold: shared by the fuzzer and by a test that runs in every build.
//!
//! Here are frames; packed frames are in `packed`, and what is said over connections is in `peers`. An input is two bytes and a
//! frame: the first byte chooses the schema that the reader expects, the second how far the frame is trusted and whether it is
//! *mended*, which makes its lengths, fingerprint and checksum right, as somebody would who means harm: else no change would get
//! past the checksum.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/counting/mod.rs"]
mod counting;

mod change;
mod frame;
pub mod packed;
pub mod peers;
mod touch;

use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use firesteel_shuffle::format::{Decoder, FramePlan, Piece, Rows, Trust, encode, fingerprint};

pub use change::change;
use common::{Numbers, array, flat_types, line_items, nested_type};
use frame::{aligned, mend};
use touch::touch;

/// Bytes of an input before the frame.
const HEAD_BYTES: usize = 2;
/// Of the second byte: who is trusted.
const TRUST_BITS: u8 = 3;
/// Of the second byte: the frame is mended.
const MEND_BIT: u8 = 4;
/// Arrays without a byte for each row may have very many; no more of these rows are used.
const ROWS_USED_MAX: usize = 4096;

/// All types that are fuzzed, one column each: without children, and nested once and twice.
static TYPES: LazyLock<Vec<DataType>> = LazyLock::new(|| {
    let mut types = flat_types();
    types.extend((0..14).map(|number| nested_type(number, DataType::Utf8, DataType::Int16)));
    types.extend((0..14).map(|number| nested_type(number, DataType::Utf8View, DataType::Boolean)));
    for outer in 0..9 {
        let inner = |number| nested_type(number, DataType::Binary, DataType::Decimal128(20, 3));
        types.extend((0..14).map(|number| nested_type(outer, inner(number), DataType::Utf8)));
    }
    types
});

/// A batch from a seed, in a schema of that choice.
fn batch(choice: u8, seed: u64, rows: usize) -> RecordBatch {
    match TYPES.get(usize::from(choice)) {
        Some(data_type) => common::one_column(array(&mut Numbers::new(seed), data_type, rows)),
        None => line_items(seed, rows),
    }
}

fn schema(choice: u8) -> SchemaRef {
    match TYPES.get(usize::from(choice)) {
        Some(data_type) => Arc::new(Schema::new(vec![Field::new("c", data_type.clone(), true)])),
        None => common::line_item_schema(),
    }
}

/// An input that holds a frame as the encoder writes it.
#[must_use]
pub fn valid(choice: u8, flags: u8, seed: u64, rows: usize) -> Vec<u8> {
    let frame = encode(&batch(choice, seed, rows)).expect("every type of the test can be encoded");
    let mut input = vec![choice, flags];
    input.extend_from_slice(&frame);
    input
}

/// Reads the frame of an input, and uses every value of what is accepted; tells whether it was.
///
/// # Panics
/// When the reader is at fault.
pub fn run(input: &[u8]) -> bool {
    let Some((&[choice, flags], frame)) = input.split_first_chunk::<HEAD_BYTES>() else { return false };
    let schema = schema(choice);
    let mut frame = frame.to_vec();
    if flags & MEND_BIT != 0 {
        mend(&mut frame, fingerprint(&schema));
    }
    let (frame, decoder) = (aligned(&frame), Decoder::new(schema));
    let trust = match flags & TRUST_BITS {
        0 => Trust::Resident,
        1 => Trust::Cluster,
        _ => Trust::Outside,
    };
    let Ok(found) = decoder.decode(&frame, trust) else {
        let stricter = decoder.decode(&frame, Trust::Outside);
        assert!(stricter.is_err(), "who is trusted less is refused no less");
        return false;
    };
    let is_valid = found.columns().iter().all(|column| column.to_data().validate_full().is_ok());
    assert!(is_valid || trust != Trust::Outside, "values from outside are checked");
    if is_valid {
        use_all(&found, &decoder);
    }
    true
}

/// Reads every value, writes them into a frame again, and reads that.
fn use_all(found: &RecordBatch, decoder: &Decoder) {
    found.columns().iter().for_each(|column| touch(column.as_ref()));
    if found.num_rows() > ROWS_USED_MAX {
        return;
    }
    let again = encode(found).expect("what was read can be written");
    let again = decoder.decode(&again, Trust::Outside).expect("what was written can be read");
    assert_eq!(again.num_rows(), found.num_rows());
    gather(found);
}

/// Picks rows as a writer does, from the last to the first.
fn gather(found: &RecordBatch) {
    let rows: Vec<u32> = (0..found.num_rows() as u32).rev().collect();
    let pieces = [Piece { batch: found, rows: Rows::Take(&rows) }];
    if let Ok(plan) = FramePlan::new(fingerprint(found.schema_ref()), &pieces) {
        let _frame = plan.encode(None);
    }
}
