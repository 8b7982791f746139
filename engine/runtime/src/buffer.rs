//! Where do received bytes live? In a bounded set of equal buffers that each core owns.
//!
//! Never grows: when a lane has no free buffer, reads of that lane wait until one comes back.
//!
//! There are two lanes, one for accepted and one for connected sockets. Requests waiting for an answer can so
//! never hold the buffers that the answers need.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::Waker;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Distance between buffers beyond their size. Buffers that all began at the same offset of a page would share
/// a few sets of the first- and second-level caches; this spreads their first lines over all of them.
const STAGGER_BYTES: usize = 576;

/// Which sockets a pool serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Sockets that were accepted.
    Accepted,
    /// Sockets that were connected.
    Connected,
}

/// A bounded pool of equal buffers, owned by one core.
pub(crate) struct BufferPool {
    base: NonNull<u8>,
    region_bytes: usize,
    stride: usize,
    buffer_bytes: u32,
    count: u16,
    /// Last in, first out: the buffer used last is the one still in the cache.
    free: RefCell<Vec<u16>>,
    waiting: RefCell<VecDeque<Waker>>,
    exhausted: Cell<u64>,
}

impl BufferPool {
    /// Reserves address space for `count` buffers; memory is used only once a buffer is.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> io::Result<Rc<Self>> {
        let stride = buffer_bytes as usize + STAGGER_BYTES;
        let region_bytes = stride * usize::from(count);
        // SAFETY: an anonymous private mapping of a fresh region touches no memory of anybody else. The pool
        // owns it and unmaps it in `drop`, after the last chunk (each holds an `Rc` of the pool) is gone.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                region_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap at address zero"))?;
        Ok(Rc::new(Self {
            base,
            region_bytes,
            stride,
            buffer_bytes,
            count,
            free: RefCell::new((0..count).rev().collect()),
            waiting: RefCell::new(VecDeque::new()),
            exhausted: Cell::new(0),
        }))
    }

    /// Takes an empty buffer, or none when all are in use.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Chunk> {
        let Some(index) = self.free.borrow_mut().pop() else {
            self.exhausted.set(self.exhausted.get() + 1);
            return None;
        };
        Some(Chunk { pool: Rc::clone(self), index, start: 0, end: 0 })
    }

    /// Wakes `waker` in a turn in which a buffer is free; see [`Self::wake_waiting`].
    pub(crate) fn wait(&self, waker: &Waker) {
        self.waiting.borrow_mut().push_back(waker.clone());
    }

    /// Whether a task waits for a buffer and there is one.
    pub(crate) fn can_wake(&self) -> bool {
        !self.waiting.borrow().is_empty() && self.free_count() > 0
    }

    /// Wakes as many waiting tasks as there are buffers. One that has given up meanwhile takes none, and the next
    /// turn wakes another: so no buffer stays free while a task waits.
    pub(crate) fn wake_waiting(&self) {
        for _ in 0..self.free_count() {
            let Some(waker) = self.waiting.borrow_mut().pop_front() else { return };
            waker.wake();
        }
    }

    fn address(&self, index: u16) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: `index` is below `count`, so the offset lies inside the mapped region.
        unsafe { self.base.add(usize::from(index) * self.stride) }
    }

    pub(crate) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.borrow().len()
    }

    pub(crate) fn exhausted(&self) -> u64 {
        self.exhausted.get()
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // SAFETY: the region came from `mmap_anonymous` with this length, and no chunk is left: each holds an `Rc`
        // of this pool.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.region_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A pooled buffer with received bytes in it; goes back to its pool when dropped.
pub struct Chunk {
    pool: Rc<BufferPool>,
    index: u16,
    start: u32,
    end: u32,
}

impl Chunk {
    /// Takes `count` bytes off the front.
    ///
    /// # Panics
    /// When fewer bytes are there.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len());
        self.start += count as u32;
        if self.start == self.end {
            // Nothing is kept, so the whole buffer has room again.
            self.start = 0;
            self.end = 0;
        }
    }

    /// Keeps only the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        if count < self.len() {
            self.end = self.start + count as u32;
        }
    }

    /// The bytes, to be changed in place, as decryption does.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        &mut self.whole()[start..end]
    }

    /// Copies as much of `bytes` as fits behind what is there, and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = bytes.len().min(spare.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.end += count as u32;
        count
    }

    /// Whether more bytes fit behind what is there.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        !self.spare().is_empty()
    }

    /// Free space behind the bytes; what was consumed in front is won back first when the rear is full.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.end == self.pool.buffer_bytes && self.start > 0 {
            let (start, end) = (self.start as usize, self.end as usize);
            self.whole().copy_within(start..end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let end = self.end as usize;
        &mut self.whole()[end..]
    }

    /// Counts `count` bytes that were written to [`Self::spare`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count as u32;
        debug_assert!(self.end <= self.pool.buffer_bytes);
    }

    fn whole(&mut self) -> &mut [u8] {
        let address = self.pool.address(self.index);
        // SAFETY: this chunk alone owns the buffer `index` until it is dropped, the mapping is zeroed at creation
        // (so always initialised) and lives as long as the pool, which this chunk keeps alive.
        unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), self.pool.buffer_bytes as usize) }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let len = (self.end - self.start) as usize;
        // SAFETY: `start` is at most `buffer_bytes`, so the address lies inside this chunk's own buffer.
        let address = unsafe { self.pool.address(self.index).add(self.start as usize) };
        // SAFETY: as in `whole`; `start..end` lies inside the buffer, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), len) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.index);
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_buffers_come_back() {
        let pool = BufferPool::new(2, 4096).expect("mmap");
        let first = pool.take().expect("first");
        let second = pool.take().expect("second");
        assert!(pool.take().is_none());
        assert_eq!(pool.exhausted(), 1);
        drop(first);
        assert!(pool.take().is_some());
        drop(second);
        assert_eq!(pool.free_count(), 2);
    }

    #[test]
    fn consumed_room_is_won_back() {
        let pool = BufferPool::new(1, 8).expect("mmap");
        let mut chunk = pool.take().expect("buffer");
        assert_eq!(chunk.append(b"0123456789"), 8);
        assert!(!chunk.has_room());
        chunk.consume(6);
        assert_eq!(&*chunk, b"67");
        assert_eq!(chunk.append(b"abcdefgh"), 6);
        assert_eq!(&*chunk, b"67abcdef");
        chunk.consume(8);
        assert!(chunk.is_empty());
        assert_eq!(chunk.spare().len(), 8);
    }

    #[test]
    fn buffers_do_not_overlap() {
        let pool = BufferPool::new(3, 64).expect("mmap");
        let mut chunks: Vec<Chunk> = (0..3).map(|_| pool.take().expect("buffer")).collect();
        for (chunk, byte) in chunks.iter_mut().zip(b"abc") {
            chunk.append(&[*byte; 64]);
        }
        for (chunk, byte) in chunks.iter().zip(b"abc") {
            assert_eq!(**chunk, [*byte; 64]);
        }
    }
}
