//! What does a member of the fleet do? It answers what it is asked, until it dies, hangs or is cut off.
//!
//! Never forgets what it was asked, whatever becomes of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use runtime::simulation::{HostId, World};
use runtime::{Core, Stream};

use super::book::Book;
use super::plan::address_of;
use crate::pattern::Check;
use crate::plan::Reading;
use crate::wire::{Ended, Head, Reader, Received, Writer};

/// A peer that waits longer than this was forgotten by the engine: all of its deadlines together are shorter.
const PATIENCE: Duration = Duration::from_secs(300);
/// The target that control asks for.
pub(super) const PROBE_TARGET: &str = "/probe";

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    Hanging,
    Dead,
}

/// What its connections share.
pub(super) struct Member {
    number: usize,
    host: HostId,
    core: Core,
    condition: Cell<Condition>,
    /// Everybody who waits for another condition.
    waiting: RefCell<Vec<Waker>>,
    book: Rc<RefCell<Book>>,
}

impl Member {
    pub(super) fn new(number: usize, host: HostId, core: Core, book: &Rc<RefCell<Book>>) -> Rc<Self> {
        let (condition, waiting) = (Cell::new(Condition::Dead), RefCell::default());
        Rc::new(Self { number, host, core, condition, waiting, book: Rc::clone(book) })
    }

    pub(super) fn set(self: &Rc<Self>, world: &World, condition: Condition) {
        let was = self.condition.replace(condition);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        if was == Condition::Dead && condition != Condition::Dead {
            let handle = world.listen(self.host, address_of(self.number), 128).expect("a free port");
            self.core.spawn(Rc::clone(self).listen(handle));
        }
    }

    /// Waits until it is as `is_so` says.
    async fn until(&self, is_so: impl Fn(Condition) -> bool) {
        poll_fn(|context| {
            if is_so(self.condition.get()) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What comes of `future`, unless this member dies before.
    async fn alive<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut death) = (pin!(future), pin!(self.until(|now| now == Condition::Dead)));
        poll_fn(|context| match death.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(context).map(Some),
        })
        .await
    }

    async fn listen(self: Rc<Self>, handle: runtime::Handle) {
        let listener = self.core.adopt_listener(handle).expect("a listener");
        while let Some(accepted) = self.alive(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => self.core.spawn(Rc::clone(&self).serve(Rc::new(stream))),
                // Its descriptors are all in use, or the connection was gone: others come.
                Err(_) => self.core.sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn serve(self: Rc<Self>, stream: Rc<Stream>) {
        let number = self.book.borrow_mut().opens(self.number, self.core.now());
        let mut reader = Reader::new(&self.core, &stream, PATIENCE, Reading::Prompt);
        let mut writer = Writer::new(&self.core, &stream, PATIENCE);
        while let Some(Ok(true)) = self.alive(self.answer(number, &mut reader, &mut writer)).await {}
        if self.condition.get() == Condition::Dead {
            // What the kernel does for a process that was killed with bytes unread.
            let _ = stream.reset_on_close();
        }
        drop((reader, writer, stream));
        self.book.borrow_mut().closes(self.number, number, self.core.now());
    }

    /// Reads a request and answers it; false when its connection has ended.
    async fn answer(&self, number: usize, reader: &mut Reader, writer: &mut Writer) -> Result<bool, Ended> {
        self.until(|now| now != Condition::Hanging).await;
        let Some(head) = reader.head().await? else { return Ok(false) };
        self.until(|now| now != Condition::Hanging).await;
        if head.start.contains(PROBE_TARGET) {
            self.book.borrow_mut().is_probed(number);
            writer.send_now(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            return Ok(true);
        }
        let (id, asked) = self.book.borrow_mut().arrives(&head, self.number, self.core.now())?;
        let mut check = Check::of_anything();
        match head.framing()? {
            Received::Unsaid => {}
            Received::Length(length) => reader.data(length, &mut check).await?,
            Received::Chunked => drop(reader.chunks(&mut check).await?),
        }
        self.core.sleep(asked.service).await;
        self.until(|now| now != Condition::Hanging).await;
        let text = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\nContent-Length: 5\r\n\r\nhello");
        writer.send_now(text.as_bytes()).await?;
        self.book.borrow_mut().answered(id, self.number);
        Ok(true)
    }
}

/// The number in a head.
pub(super) fn id_of(head: &Head) -> Option<usize> {
    head.field("x-id")?.parse().ok()
}
