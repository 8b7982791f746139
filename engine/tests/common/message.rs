//! What does an HTTP/1 message say? Heads taken apart and bodies delimited, for both ends of a test.
//!
//! Strict where the engine must be: a malformed chunk or field fails the test instead of being understood.

/// A start line and its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Without its line end.
    pub(crate) start_line: String,
    /// In order, as spelled, values trimmed.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// Takes `raw` apart, which ends with an empty line.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let text: String = raw.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.strip_suffix("\r\n\r\n").expect("an empty line ends a head").split("\r\n");
        let start_line = lines.next().expect("a start line").to_owned();
        Self { start_line, fields: lines.map(parse_field).collect() }
    }

    /// All values of a field, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that is there at most once.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} is repeated: {self:?}");
        values.first().copied()
    }

    /// The second word of a request line.
    pub(crate) fn target(&self) -> &str {
        self.start_line.split(' ').nth(1).expect("a request line has a target")
    }

    /// The first word of a request line.
    pub(crate) fn method(&self) -> &str {
        self.start_line.split(' ').next().expect("a request line has a method")
    }

    /// The code of a status line.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let code = self.start_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {self:?}"))
    }

    /// How the body of a request with this head ends.
    pub(crate) fn request_framing(&self) -> Framing {
        self.declared_framing().unwrap_or(Framing::Length(0))
    }

    /// How the body of a response with this head ends, to a request with `method`.
    pub(crate) fn response_framing(&self, method: &str) -> Framing {
        match self.status() {
            100..=199 | 204 | 304 => Framing::Length(0),
            _ if method == "HEAD" => Framing::Length(0),
            _ => self.declared_framing().unwrap_or(Framing::UntilClose),
        }
    }

    fn declared_framing(&self) -> Option<Framing> {
        let length = self.value("Content-Length").map(|value| value.parse().expect("a length is a number"));
        match self.value("Transfer-Encoding") {
            Some(coding) => {
                assert_eq!((coding, length), ("chunked", None), "{self:?}");
                Some(Framing::Chunked)
            }
            None => length.map(Framing::Length),
        }
    }
}

/// Takes one field line apart, without its line end.
pub(crate) fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field line: {line:?}"));
    assert!(!name.is_empty() && !name.contains(' '), "no field line: {line:?}");
    (name.to_owned(), value.trim().to_owned())
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What followed a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyEnd {
    /// Bytes of content.
    pub(crate) length: u64,
    /// The body came to the end that its framing promised.
    pub(crate) is_complete: bool,
    /// Fields after the last chunk.
    pub(crate) trailers: Vec<(String, String)>,
}

/// A whole message, or as much of it as came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: BodyEnd,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// Fails unless this is a complete response of this status and text.
    #[track_caller]
    pub(crate) fn assert_is(&self, status: u16, text: &str) {
        assert!(self.end.is_complete, "incomplete: {self:?}");
        assert_eq!((self.status(), self.text()), (status, text), "{self:?}");
    }
}
