//! What a block costs: encoding, decoding, packing, deciding where rows go, and a lane's whole write, beside a plain copy of memory.
//! Throughput is in bytes of frames, that of deciding in rows. When packing is measured, what frames shrink to is printed.

mod data;
mod rows;

use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields};
use bytes::Bytes;
use data::{Numbers, digest_rows, hashes, line_items, store, write};
use firesteel_base::{AttemptKey, JobId, StageId};
use firesteel_micro::{Bench, Throughput, run};
use firesteel_shuffle::format::{Decoder, Trust, encode};
use firesteel_shuffle::pack::{Codec, pack, unpack};
use firesteel_shuffle::partition::hash_assignment;
use rows::{Keys, Shape};

/// The allocator of the command: frames are memory that it has just given.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a batch: full size, and tiny.
const ROWS: (usize, usize) = (8192, 100);
/// Bytes that a lane of full size writes.
const LANE_BYTES: usize = 64 << 20;
/// Partitions that a lane writes to.
const PARTITIONS: [u32; 5] = [2, 16, 256, 1024, 4096];

/// Lists of pairs, words from a dictionary, and pairs with nulls.
fn nested(seed: u64, rows: usize) -> RecordBatch {
    let mut numbers = Numbers::new(seed);
    let pairs = |numbers: &mut Numbers, count: usize| {
        let fields = Fields::from(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ]);
        let id: Int64Array = (0..count).map(|i| (i % 9 > 0).then(|| numbers.below(1 << 40) as i64)).collect();
        let text: StringArray = (0..count).map(|_| Some(format!("{:x}", numbers.below(1 << 50)))).collect();
        StructArray::new(fields, vec![Arc::new(id), Arc::new(text)], None)
    };
    let lengths = OffsetBuffer::<i32>::from_lengths((0..rows).map(|_| numbers.below(5) as usize));
    let items = pairs(&mut numbers, *lengths.last().expect("one more than rows") as usize);
    let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let words: Vec<_> = (0..rows).map(|_| ["TRUCK", "MAIL", "REG AIR"][numbers.below(3) as usize]).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("lists", Arc::new(ListArray::new(item, lengths, Arc::new(items), None))),
        ("words", Arc::new(words.into_iter().collect::<DictionaryArray<Int32Type>>())),
        ("pairs", Arc::new(pairs(&mut numbers, rows))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn frames(bench: &mut Bench) {
    let rows = bench.size(ROWS.0, ROWS.1);
    for (name, batch) in [("line_items", line_items(1, rows)), ("nested", nested(1, rows))] {
        let frame = encode(&batch).expect("a frame");
        let mut group = bench.group("encode", Throughput::Bytes(frame.len() as u64));
        group.bench(
            name,
            || encode(black_box(&batch)).expect("a frame"),
            |frame, digest| digest.bytes(frame),
        );
        drop(group);

        let decoder = Decoder::new(batch.schema());
        let mut group = bench.group("decode", Throughput::Bytes(frame.len() as u64));
        for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
            group.bench(
                format!("{name}/{trust:?}"),
                || decoder.decode(black_box(&frame), trust).expect("a batch"),
                |batch, digest| digest_rows([batch], digest),
            );
        }
    }
}

/// Packs frames, and unpacks those that shrink. What the others cost is the price of a try in vain.
fn packing(bench: &mut Bench) {
    let (rows, is_measured) = (bench.size(ROWS.0, ROWS.1), bench.size(true, false));
    let wide = Shape::Wide.batch(Keys::Uniform, 1, rows);
    for (name, batch) in [("line_items", line_items(1, rows)), ("nested", nested(1, rows)), ("wide", wide)] {
        let frame = encode(&batch).expect("a frame");
        for codec in Codec::ALL {
            let packed = pack(codec, &frame);
            if is_measured {
                println!("{name}/{codec}: {:?} bytes of {}", packed.as_ref().map(Bytes::len), frame.len());
            }
            let mut group = bench.group(&format!("pack/{name}"), Throughput::Bytes(frame.len() as u64));
            group.bench_timed(codec, on_core(|| pack(codec, black_box(&frame))), |packed, digest| {
                let unpacked = packed.as_ref().map(|packed| unpack(packed).expect("it was packed"));
                digest.bytes(&unpacked.unwrap_or_else(|| frame.clone()));
            });
            drop(group);
            let Some(packed) = packed else { continue };
            let mut group = bench.group(&format!("unpack/{name}"), Throughput::Bytes(frame.len() as u64));
            let work = || unpack(black_box(&packed)).expect("it was packed");
            group.bench_timed(codec, on_core(work), |frame, digest| digest.bytes(frame));
        }
    }
}

/// Where each row goes.
fn assign(bench: &mut Bench) {
    let batch = line_items(1, bench.size(ROWS.0, ROWS.1));
    let mut of_rows = Vec::new();
    hashes(&batch, &mut of_rows);
    let mut group = bench.group("assign", Throughput::Elements(batch.num_rows() as u64));
    for partitions in [16_u32, 256] {
        let hash = || {
            let mut assignment = Vec::new();
            hash_assignment(black_box(&of_rows), partitions, &mut assignment);
            assignment
        };
        group.bench(format!("hash/{partitions}"), hash, |assignment, digest| {
            assignment.iter().for_each(|partition| digest.number((*partition).into()));
        });
    }
}

/// Copies as many bytes as a lane writes: what the others are to be held against.
fn copy(bench: &mut Bench) {
    let source: Vec<u8> = (0..bench.size(LANE_BYTES, 1000)).map(|at| at as u8).collect();
    let mut target = vec![0; source.len()];
    let mut group = bench.group("copy", Throughput::Bytes(source.len() as u64));
    group.samples(20);
    let copy = || {
        target.copy_from_slice(black_box(&source));
        target[source.len() / 2]
    };
    group.bench_timed("bytes", on_core(copy), |byte, digest| digest.number((*byte).into()));
}

/// Hashes, scatters, encodes and keeps all batches of a lane, then frees them. Throughput is of the rows as they lie in one frame
/// a batch.
fn lane(bench: &mut Bench) {
    for (name, shape) in [("narrow", Shape::Narrow), ("line_items", Shape::LineItem), ("wide", Shape::Wide)] {
        for keys in [Keys::Uniform, Keys::Zipf] {
            let rows = bench.size(ROWS.0, ROWS.1);
            let lane = Lane::new(shape, keys, rows, bench.size(LANE_BYTES, 10_000));
            for partitions in PARTITIONS {
                lane.bench(bench, &format!("lane/{name}/{keys:?}"), partitions);
            }
        }
    }
    let lane = Lane::new(Shape::Narrow, Keys::Uniform, bench.size(128, 16), bench.size(LANE_BYTES / 8, 1000));
    lane.bench(bench, "lane/small_batches", 4096);
}

/// The batches of a lane, made when they are first needed.
struct Lane {
    batches: LazyCell<Vec<RecordBatch>, Box<dyn Fn() -> Vec<RecordBatch>>>,
    bytes: usize,
}

impl Lane {
    /// Batches of `rows` rows that come to `bytes` bytes, about.
    fn new(shape: Shape, keys: Keys, rows: usize, bytes: usize) -> Self {
        let of_batch = encode(&shape.batch(keys, 1, rows)).expect("a frame").len();
        let count = bytes.div_ceil(of_batch);
        let make = move || (1..=count as u64).map(|seed| shape.batch(keys, seed, rows)).collect();
        Self { bytes: of_batch * count, batches: LazyCell::new(Box::new(make)) }
    }

    fn bench(&self, bench: &mut Bench, group: &str, partitions: u32) {
        let (store, _) = store();
        let attempt = AttemptKey::new(JobId(1), StageId(0), 0, 0);
        let keep = || {
            let writer = store.writer(attempt, 0, self.batches[0].schema(), partitions);
            let output = write(writer, black_box(self.batches.as_slice()), partitions);
            store.discard(&attempt);
            output
        };
        let mut group = bench.group(group, Throughput::Bytes(self.bytes as u64));
        group.samples(10);
        group.bench_timed(partitions, on_core(keep), |output, digest| {
            for block in &output.partitions {
                digest.number(block.rows);
                digest.number(block.bytes);
            }
        });
    }
}

/// Work, timed by what its thread ran on a core and not by the clock: what else runs on the machine does not count.
fn on_core<T>(mut work: impl FnMut() -> T) -> impl FnMut(u64) -> (Duration, T) {
    move |times| {
        let start = time_on_core();
        let mut last = work();
        for _ in 1..times {
            last = work();
        }
        (time_on_core() - start, last)
    }
}

/// For how long this thread has run.
fn time_on_core() -> Duration {
    // Giving way has the kernel count up to now, and not only up to its last tick.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel that counts this");
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds first"))
}

fn main() {
    run(include_str!("block.hashes"), &[frames, packing, assign, copy, lane]);
}
