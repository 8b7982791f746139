//! Who polls what next? Tasks of one core, their memory, and the queue of those that are ready.
//!
//! Never moves a task to another thread; a wake-up from elsewhere goes through [`crate::mailbox::Remote`].
//!
//! A waker is two words without a count: the core's number and the task's index. Waking a task that has ended
//! wakes at worst its successor in the same place, which takes it for a spurious wake-up.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use crate::mailbox;

/// Smallest block of task memory in bytes; classes double from here.
const BLOCK_BYTES_MIN: usize = 256;
/// 256 B to 32 KiB.
const CLASSES: usize = 8;
/// Blocks of one class kept for reuse; beyond, memory goes back to the allocator.
const BLOCKS_KEPT_MAX: usize = 512;
/// Alignment of every block, a cache line; futures that need more are boxed by the allocator as they are.
const BLOCK_ALIGN: usize = 64;
/// How much of a future is fetched into the cache ahead of its poll. What an exchange is at lies in the beginning of its task;
/// more would drive out what others need.
#[cfg(target_arch = "x86_64")]
const FETCHED_AHEAD: usize = 1280;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Queued,
    Running,
    /// Woken while being polled: goes back into the queue afterwards.
    RunningAndQueued,
}

struct Task {
    state: State,
    class: u8,
    block: NonNull<u8>,
    poll: unsafe fn(NonNull<u8>, &mut Context<'_>) -> Poll<()>,
    drop: unsafe fn(NonNull<u8>),
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Pending,
    Done,
    Panicked,
}

/// All tasks of one core.
pub(crate) struct Tasks {
    slots: RefCell<Vec<Task>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<u32>>,
    blocks: RefCell<[Vec<NonNull<u8>>; CLASSES]>,
    core_number: u32,
    live: Cell<usize>,
}

fn class_of<F>() -> Option<usize> {
    let layout = Layout::new::<F>();
    if layout.align() > BLOCK_ALIGN {
        return None;
    }
    (0..CLASSES).find(|class| BLOCK_BYTES_MIN << class >= layout.size())
}

fn block_layout(class: usize) -> Layout {
    Layout::from_size_align(BLOCK_BYTES_MIN << class, BLOCK_ALIGN)
        .expect("a power of two well below isize::MAX")
}

unsafe fn poll_block<F: Future<Output = ()>>(block: NonNull<u8>, context: &mut Context<'_>) -> Poll<()> {
    // SAFETY: the caller passes the block into which `spawn` wrote an `F`, not yet dropped, and holds it alone.
    let future = unsafe { block.cast::<F>().as_mut() };
    // SAFETY: the block is never moved or reused before `drop_block` has run.
    unsafe { Pin::new_unchecked(future) }.poll(context)
}

unsafe fn drop_block<F>(block: NonNull<u8>) {
    // SAFETY: the caller passes a block that holds an `F`, and never touches that `F` again.
    unsafe { block.cast::<F>().drop_in_place() };
}

impl Tasks {
    pub(crate) fn new(core_number: u32) -> Self {
        Self {
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            ready: RefCell::new(VecDeque::new()),
            blocks: RefCell::new([const { Vec::new() }; CLASSES]),
            core_number,
            live: Cell::new(0),
        }
    }

    /// Number of tasks that have not ended.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    /// Stores `future` in recycled memory and queues it.
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(&self, future: F) {
        let Some(class) = class_of::<F>() else {
            // Larger than any block: the allocator's business.
            let boxed: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
            return self.spawn(boxed);
        };
        let block = self.take_block(class);
        // SAFETY: the block is at least as large as `F`, aligned for it, and nobody else has it.
        unsafe { block.cast::<F>().write(future) };
        let task = Task {
            state: State::Queued,
            class: class as u8,
            block,
            poll: poll_block::<F>,
            drop: drop_block::<F>,
        };
        let recycled = self.free.borrow_mut().pop();
        let index = if let Some(index) = recycled {
            self.slots.borrow_mut()[index as usize] = task;
            index
        } else {
            let mut slots = self.slots.borrow_mut();
            slots.push(task);
            u32::try_from(slots.len() - 1).expect("fewer than 2^32 tasks")
        };
        self.live.set(self.live.get() + 1);
        self.ready.borrow_mut().push_back(index);
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Queues a task unless it is queued already or has ended.
    #[inline]
    pub(crate) fn wake(&self, index: u32) {
        let mut slots = self.slots.borrow_mut();
        let Some(task) = slots.get_mut(index as usize) else { return };
        match task.state {
            State::Waiting => {
                task.state = State::Queued;
                self.ready.borrow_mut().push_back(index);
            }
            State::Running => task.state = State::RunningAndQueued,
            State::Free | State::Queued | State::RunningAndQueued => {}
        }
    }

    /// Polls the task at the head of the queue, if there is one.
    pub(crate) fn poll_next(&self) -> Option<Polled> {
        let (index, following) = {
            let mut ready = self.ready.borrow_mut();
            (ready.pop_front()?, ready.front().copied())
        };
        let (block, poll) = {
            let mut slots = self.slots.borrow_mut();
            if let Some(following) = following {
                // With hundreds of connections a task has left the cache since it last ran: 3 to 4 % of a request.
                fetch_ahead(slots[following as usize].block);
            }
            let task = &mut slots[index as usize];
            debug_assert_eq!(task.state, State::Queued);
            task.state = State::Running;
            (task.block, task.poll)
        };
        let waker = waker(self.core_number, index);
        let mut context = Context::from_waker(&waker);
        // SAFETY: the state `Running` keeps everybody else from polling or freeing this block; `poll` was made
        // for the type that was written into it.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { poll(block, &mut context) }));
        match outcome {
            Ok(Poll::Pending) => {
                let mut slots = self.slots.borrow_mut();
                let task = &mut slots[index as usize];
                if task.state == State::RunningAndQueued {
                    task.state = State::Queued;
                    self.ready.borrow_mut().push_back(index);
                } else {
                    task.state = State::Waiting;
                }
                Some(Polled::Pending)
            }
            Ok(Poll::Ready(())) => {
                self.end(index);
                Some(Polled::Done)
            }
            Err(_) => {
                self.end(index);
                Some(Polled::Panicked)
            }
        }
    }

    /// Drops a task's future and frees its place.
    fn end(&self, index: u32) {
        let (block, drop, class) = {
            let slots = self.slots.borrow();
            let task = &slots[index as usize];
            (task.block, task.drop, task.class)
        };
        // SAFETY: the task is in state `Running` (or the core is ending), so nobody polls it; its state becomes
        // `Free` below, so it is dropped once. A panic in a destructor must not take the core down.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { drop(block) }));
        self.slots.borrow_mut()[index as usize].state = State::Free;
        self.live.set(self.live.get() - 1);
        self.free.borrow_mut().push(index);
        if dropped.is_ok() {
            self.give_block(usize::from(class), block);
        }
    }

    fn take_block(&self, class: usize) -> NonNull<u8> {
        if let Some(block) = self.blocks.borrow_mut()[class].pop() {
            return block;
        }
        let layout = block_layout(class);
        // SAFETY: the layout has a size above zero.
        let block = unsafe { alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    }

    fn give_block(&self, class: usize, block: NonNull<u8>) {
        let kept = &mut self.blocks.borrow_mut()[class];
        if kept.len() < BLOCKS_KEPT_MAX {
            kept.push(block);
        } else {
            // SAFETY: the block came from `alloc` with this class's layout and holds nothing any more.
            unsafe { dealloc(block.as_ptr(), block_layout(class)) };
        }
    }

    /// Drops every task. A destructor may spawn or wake; what it spawns is dropped too.
    pub(crate) fn clear(&self) {
        let mut index = 0;
        while index < self.slots.borrow().len() {
            if self.slots.borrow()[index].state != State::Free {
                self.slots.borrow_mut()[index].state = State::Running;
                self.end(index as u32);
            }
            index += 1;
        }
        self.ready.borrow_mut().clear();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.clear();
        for (class, blocks) in self.blocks.get_mut().iter_mut().enumerate() {
            for block in blocks.drain(..) {
                // SAFETY: as in `give_block`.
                unsafe { dealloc(block.as_ptr(), block_layout(class)) };
            }
        }
    }
}

/// Asks the processor to fetch the beginning of a block into its nearest cache, while something else is done.
#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_ahead(block: NonNull<u8>) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for offset in (0..FETCHED_AHEAD).step_by(BLOCK_ALIGN) {
        // SAFETY: a hint that reads nothing and faults nowhere, wherever the address points: beyond a small block, too.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(offset).cast()) };
    }
}

/// Elsewhere the standard library has no such hint.
#[cfg(not(target_arch = "x86_64"))]
fn fetch_ahead(_: NonNull<u8>) {}

thread_local! {
    /// The core whose turn runs on this thread now, and its tasks.
    static CURRENT: Cell<Option<(u32, NonNull<Tasks>)>> = const { Cell::new(None) };
}

/// Makes `tasks` the ones that wakers on this thread reach directly, until dropped.
pub(crate) struct Entered(Option<(u32, NonNull<Tasks>)>);

impl Entered {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self(CURRENT.replace(Some((tasks.core_number, NonNull::from(tasks)))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

fn waker(core_number: u32, index: u32) -> Waker {
    let data = (u64::from(core_number) << 32 | u64::from(index)) as usize;
    let raw = RawWaker::new(std::ptr::without_provenance(data), &VTABLE);
    // SAFETY: the functions of the table only read the numbers in `data`; cloning and dropping own nothing, and
    // waking is allowed from any thread.
    unsafe { Waker::from_raw(raw) }
}

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake_data, wake_data, |_| {});

fn wake_data(data: *const ()) {
    let data = data.addr() as u64;
    let (core_number, index) = ((data >> 32) as u32, data as u32);
    match CURRENT.get() {
        // SAFETY: `CURRENT` is set only while `Entered` borrows these tasks on this very thread.
        Some((current, tasks)) if current == core_number => unsafe { tasks.as_ref() }.wake(index),
        _ => mailbox::wake_task(core_number, index),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn run_all(tasks: &Tasks) -> Vec<Polled> {
        let _entered = Entered::new(tasks);
        std::iter::from_fn(|| tasks.poll_next()).take(1000).collect()
    }

    #[test]
    fn memory_is_reused_and_destructors_run_once() {
        let tasks = Tasks::new(u32::MAX);
        let token = Rc::new(());
        for _ in 0..100 {
            let token = Rc::clone(&token);
            tasks.spawn(async move {
                let _token = token;
            });
            assert_eq!(run_all(&tasks), [Polled::Done]);
        }
        assert_eq!(Rc::strong_count(&token), 1);
        assert_eq!(tasks.slots.borrow().len(), 1);
        assert_eq!(tasks.blocks.borrow()[0].len(), 1);
    }

    #[test]
    fn a_task_that_wakes_itself_goes_to_the_end_of_the_queue() {
        let tasks = Tasks::new(u32::MAX);
        let order = Rc::new(RefCell::new(Vec::new()));
        for name in ["a", "b"] {
            let order = Rc::clone(&order);
            let mut left = 2;
            tasks.spawn(std::future::poll_fn(move |context| {
                order.borrow_mut().push(name);
                left -= 1;
                context.waker().wake_by_ref();
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
        run_all(&tasks);
        assert_eq!(*order.borrow(), ["a", "b", "a", "b"]);
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        let tasks = Tasks::new(u32::MAX);
        tasks.spawn(async { panic!("expected in this test") });
        tasks.spawn(async {});
        assert_eq!(run_all(&tasks), [Polled::Panicked, Polled::Done]);
        assert_eq!(tasks.live(), 0);
    }

    #[test]
    fn pending_tasks_are_dropped_with_the_core() {
        let token = Rc::new(());
        {
            let tasks = Tasks::new(u32::MAX);
            let kept = Rc::clone(&token);
            tasks.spawn(async move {
                let _kept = kept;
                std::future::pending::<()>().await;
            });
            run_all(&tasks);
            assert_eq!(Rc::strong_count(&token), 2);
        }
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn futures_larger_than_any_block_are_boxed() {
        let tasks = Tasks::new(u32::MAX);
        let large = [0_u8; BLOCK_BYTES_MIN << CLASSES];
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        tasks.spawn(async move {
            std::hint::black_box(&large);
            flag.set(true);
        });
        run_all(&tasks);
        assert!(done.get());
    }
}
