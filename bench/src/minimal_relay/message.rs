//! Where does a message end, for a relay that does not parse?
//!
//! The same lines for every runtime, those outside of the workspace included; they know no runtime.

/// Ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Bytes taken by one receive: a head and a 16 KiB body fit in one, as in the null relay.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Whether `bytes` are a whole request without a body, with nothing behind it.
pub(crate) fn request_is_whole(bytes: &[u8]) -> bool {
    bytes.ends_with(HEAD_END)
}

/// Whether `bytes` are a whole reply whose body has `body_bytes`.
pub(crate) fn reply_is_whole(bytes: &[u8], body_bytes: usize) -> bool {
    let head_end = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END);
    head_end.is_some_and(|head_end| bytes.len() >= head_end + HEAD_END.len() + body_bytes)
}
