//! What does a client of a fleet do? It asks, and writes down what it gets.
//!
//! Never asks anything twice: a request that fails is for the engine to repeat, or for nobody.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Core, Instant};

use super::book::{Book, Outcome};
use super::member::id_of;
use super::plan::listener;
use crate::pattern::Check;
use crate::plan::Reading;
use crate::wire::{Ended, Reader, Received, Writer};

/// Longer than all deadlines of the engine together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks these, one after the other.
pub(super) async fn ask(
    core: Core,
    book: Rc<RefCell<Book>>,
    ids: std::ops::Range<usize>,
    starts_at: Instant,
) {
    core.sleep_until(starts_at).await;
    let mut connection = None;
    for id in ids {
        let asked = book.borrow().requests[id].asked;
        core.sleep(asked.pause).await;
        if connection.is_none() {
            let deadline = core.now() + PATIENCE;
            let Ok(stream) = core.connect(listener(), deadline).await else { continue };
            let stream = Rc::new(stream);
            let reader = Reader::new(&core, &stream, PATIENCE, Reading::Prompt);
            connection = Some((reader, Writer::new(&core, &stream, PATIENCE)));
        }
        let Some((reader, writer)) = &mut connection else { continue };
        {
            let mut book = book.borrow_mut();
            book.note(|| format!("{:>12.6}  client asks {id}", book.seconds(core.now())));
            book.requests[id].begun = Some(core.now());
        }
        let (method, length) = if asked.is_post { ("POST", "Content-Length: 4\r\n") } else { ("GET", "") };
        let body = if asked.is_post { "work" } else { "" };
        let text = format!("{method} /{id} HTTP/1.1\r\nHost: a.example\r\nx-id: {id}\r\n{length}\r\n{body}");
        let outcome = match writer.send_now(text.as_bytes()).await {
            Ok(()) => read(reader, id, &book).await,
            Err(ended) => Err(ended),
        };
        let (outcome, stays) = outcome.unwrap_or_else(|ended| match ended {
            Ended::Late => (Outcome::Forgotten, false),
            _ => (Outcome::Cut, false),
        });
        let mut book = book.borrow_mut();
        book.note(|| format!("{:>12.6}  client has {outcome:?} to {id}", book.seconds(core.now())));
        book.requests[id].outcome = outcome;
        book.requests[id].ended = Some(core.now());
        if !stays {
            connection = None;
        }
    }
    book.borrow_mut().clients_open -= 1;
}

/// Reads the answer to a request; whether another may follow.
async fn read(reader: &mut Reader, id: usize, book: &RefCell<Book>) -> Result<(Outcome, bool), Ended> {
    let Some(head) = reader.head().await? else { return Err(Ended::Closed) };
    let mut check = Check::of_anything();
    match head.framing()? {
        Received::Length(length) => reader.data(length, &mut check).await?,
        Received::Chunked => drop(reader.chunks(&mut check).await?),
        Received::Unsaid => {}
    }
    let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let outcome = match (id_of(&head), status) {
        (Some(other), _) if other != id => {
            book.borrow_mut().breaks(format!("AnswerOfAnother: {other} instead of {id}"));
            Outcome::Cut
        }
        (Some(_), 200) => Outcome::Answered,
        _ => Outcome::Own(status),
    };
    Ok((outcome, head.field("connection").is_none_or(|option| option != "close")))
}
