//! Through a file of Arrow IPC streams, one stream a partition and gathering, and where each lies.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;

/// A file of streams, and where those of each partition lie in it.
pub struct Streams {
    path: PathBuf,
    parts: Vec<Vec<(u64, usize)>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("nobody else removes it");
    }
}

/// Writes streams.
pub struct Writer {
    file: BufWriter<File>,
    end: u64,
    streams: Streams,
}

impl Writer {
    /// Into a new file.
    pub fn new(path: PathBuf, partitions: u32) -> Self {
        let options = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = BufWriter::with_capacity(1 << 20, options.expect("the folder can be written to"));
        Self { file, end: 0, streams: Streams { path, parts: vec![Vec::new(); partitions as usize] } }
    }

    /// Appends the rows of a partition as a stream of their own.
    pub fn add(&mut self, partition: u32, batch: &RecordBatch) {
        let mut stream =
            StreamWriter::try_new(&mut self.file, &batch.schema()).expect("a schema can be written");
        stream.write(batch).expect("there is room");
        stream.finish().expect("there is room");
        let end = self.file.stream_position().expect("a file has one");
        self.streams.parts[partition as usize].push((self.end, (end - self.end) as usize));
        self.end = end;
    }

    /// What was written.
    pub fn finish(mut self) -> Streams {
        self.file.flush().expect("there is room");
        self.streams
    }
}

impl Streams {
    /// The batches of each partition, which point into the bytes that were read.
    pub fn read(&self) -> Vec<Vec<RecordBatch>> {
        let file = File::open(&self.path).expect("it was written");
        let read = |&(start, len): &(u64, usize)| {
            let mut bytes = MutableBuffer::from_len_zeroed(len);
            file.read_exact_at(bytes.as_slice_mut(), start).expect("it was written");
            let (mut bytes, mut decoder) = (Buffer::from(bytes), StreamDecoder::new());
            let mut batches = Vec::new();
            while !bytes.is_empty() {
                batches.extend(decoder.decode(&mut bytes).expect("a stream"));
            }
            batches
        };
        self.parts.iter().map(|parts| parts.iter().flat_map(read).collect()).collect()
    }
}
