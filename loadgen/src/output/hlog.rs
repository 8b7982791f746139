//! How is an interval log written, so that HdrHistogram's own tools read it?
//!
//! Never holds a line back: what was written before a crash is a whole log.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use proto::histogram::MergedHistogram;

/// An interval log (`.hlog`) in format 1.3: one line an interval, its histogram in nanoseconds.
pub(crate) struct IntervalLog {
    file: File,
    serializer: V2DeflateSerializer,
    has_begun: bool,
}

impl IntervalLog {
    /// A log in an empty `file`.
    pub(crate) fn new(file: File) -> Self {
        Self { file, serializer: V2DeflateSerializer::new(), has_begun: false }
    }

    /// Writes the head with the wall-clock time from which intervals count. Only the first call does anything.
    ///
    /// # Errors
    /// Whatever the file says.
    pub(crate) fn begin(&mut self, start: SystemTime) -> io::Result<()> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        let mut head = Vec::new();
        // Its own `StartTime` makes every reader take the lines' times as relative to it.
        IntervalLogWriterBuilder::new()
            .add_comment("[Latencies of right answers, values and Interval_Max in nanoseconds]")
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(start)
            .begin_log_with(&mut head, &mut self.serializer)?;
        head.extend_from_slice(
            b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        );
        self.file.write_all(&head)
    }

    /// Writes one interval that began `start` after the head's time.
    ///
    /// # Errors
    /// Whatever the file says.
    pub(crate) fn write(
        &mut self,
        latency: &MergedHistogram,
        start: Duration,
        length: Duration,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut line, &mut self.serializer)?
            .write_histogram(latency, start, length, None)
            .map_err(|error| io::Error::other(error.to_string()))?;
        // In one call, so that a reader who looks on finds whole lines.
        self.file.write_all(&line)
    }
}
