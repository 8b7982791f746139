//! How does the kernel get buffers to receive into? A provided-buffer ring over a core's pool.
//!
//! Never hands out a buffer twice: an index is in the pool, in the ring, or in a chunk.

use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::buffer::BufferPool;

/// One in this many buffers is kept for reads by system call.
const RESERVE_SHARE: usize = 4;
/// A ring of buffers shared with the kernel (`IORING_REGISTER_PBUF_RING`).
pub(crate) struct RingBuffers {
    pool: Rc<BufferPool>,
    entries: NonNull<BufRingEntry>,
    mask: u16,
    /// Buffers the kernel may fill now.
    provided: u16,
    tail: u16,
    group: u16,
}

impl RingBuffers {
    pub(crate) fn register(pool: Rc<BufferPool>, group: u16, submitter: &Submitter<'_>) -> io::Result<Self> {
        let slots = pool.count().next_power_of_two();
        let region_bytes = usize::from(slots) * size_of::<BufRingEntry>();
        // SAFETY: a fresh anonymous mapping, page-aligned as the kernel asks; unmapped in `drop`.
        let region = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                region_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let entries = NonNull::new(region.cast::<BufRingEntry>())
            .ok_or_else(|| io::Error::other("mmap at address zero"))?;
        let mut ring = Self { pool, entries, mask: slots - 1, provided: 0, tail: 0, group };
        // SAFETY: `entries` points to `slots` zeroed entries that stay mapped until the ring is closed, since the
        // driver drops its io_uring instance first.
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, slots, group, 0) }?;
        ring.provide();
        Ok(ring)
    }

    pub(crate) fn group(&self) -> u16 {
        self.group
    }

    pub(crate) fn pool(&self) -> &Rc<BufferPool> {
        &self.pool
    }

    /// Buffers the kernel may fill now.
    pub(crate) fn provided(&self) -> usize {
        self.provided.into()
    }

    /// Gives the kernel the buffers that are free, with one store of the tail. A share stays back: bulk reads take
    /// theirs from the pool, and would starve while the kernel sat on all of them.
    pub(crate) fn provide(&mut self) {
        let reserve = usize::from(self.pool.count()).div_ceil(RESERVE_SHARE);
        if self.pool.free_count() <= reserve {
            return;
        }
        while self.pool.free_count() > reserve {
            let Some(index) = self.pool.take_index() else { break };
            let place = usize::from(self.tail & self.mask);
            // SAFETY: `place` is below the number of entries in the mapping.
            let entry = unsafe { self.entries.add(place) };
            // SAFETY: the kernel reads entries only between its head and the tail stored below, and this one lies
            // beyond the tail, so this is the only reference to it.
            let entry = unsafe { &mut *entry.as_ptr() };
            entry.set_addr(self.pool.address(index).as_ptr() as u64);
            entry.set_len(self.pool.buffer_bytes());
            entry.set_bid(index);
            self.tail = self.tail.wrapping_add(1);
            self.provided += 1;
        }
        // SAFETY: `entries` is the start of the registered ring, whose tail lies inside its first entry.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned, mapped, and written by this thread alone; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Counts a buffer that the kernel has taken out of the ring.
    pub(crate) fn taken(&mut self) {
        self.provided -= 1;
    }
}

impl Drop for RingBuffers {
    fn drop(&mut self) {
        let region_bytes = (usize::from(self.mask) + 1) * size_of::<BufRingEntry>();
        // SAFETY: mapped in `register` with this length; the driver has cancelled all operations and closed the
        // io_uring instance before it drops this.
        let unmapped = unsafe { munmap(self.entries.as_ptr().cast(), region_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
