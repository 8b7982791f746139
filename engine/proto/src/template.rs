//! What does a text of the operator's say for this request? `https://${host}${path}`, with what the request has put in.
//!
//! Never lets a byte through that could not stand in a field value: what is put in has been parsed, and what was written is
//! checked before.

/// What a request can put into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address without port; empty if it has none.
    ClientAddress,
    /// The host that was asked for, without port.
    Host,
    /// The same with its port, if it was named.
    Authority,
    /// The path as received, without the query.
    Path,
    /// The query as received, with its question mark; empty if there is none.
    Query,
    /// `http` or `https`.
    Scheme,
    /// The method.
    Method,
    /// The id that the request goes by, of the client's if that is believed.
    RequestId,
    /// Name of the listener that it came in by.
    Listener,
    /// Name of the channel that took it.
    Channel,
}

impl Variable {
    /// All of them by name.
    pub const NAMES: [(&'static str, Self); 10] = [
        ("client_address", Self::ClientAddress),
        ("host", Self::Host),
        ("authority", Self::Authority),
        ("path", Self::Path),
        ("query", Self::Query),
        ("scheme", Self::Scheme),
        ("method", Self::Method),
        ("request_id", Self::RequestId),
        ("listener", Self::Listener),
        ("channel", Self::Channel),
    ];

    /// The variable of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, variable)| variable)
    }
}

/// What one request puts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values<'a> {
    /// [`Variable::ClientAddress`]
    pub client_address: &'a [u8],
    /// [`Variable::Authority`], which [`Variable::Host`] is part of.
    pub authority: &'a [u8],
    /// [`Variable::Path`]
    pub path: &'a [u8],
    /// [`Variable::Query`]
    pub query: &'a [u8],
    /// [`Variable::Scheme`]
    pub scheme: &'a [u8],
    /// [`Variable::Method`]
    pub method: &'a [u8],
    /// [`Variable::RequestId`]
    pub request_id: &'a [u8],
    /// [`Variable::Listener`]
    pub listener: &'a [u8],
    /// [`Variable::Channel`]
    pub channel: &'a [u8],
}

impl<'a> Values<'a> {
    fn of(&self, variable: Variable) -> &'a [u8] {
        match variable {
            Variable::ClientAddress => self.client_address,
            Variable::Host => crate::matching::without_port(self.authority),
            Variable::Authority => self.authority,
            Variable::Path => self.path,
            Variable::Query => self.query,
            Variable::Scheme => self.scheme,
            Variable::Method => self.method,
            Variable::RequestId => self.request_id,
            Variable::Listener => self.listener,
            Variable::Channel => self.channel,
        }
    }
}

/// A text with places for what a request puts in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without an end.
    #[error("\"${{\" without a closing \"}}\"")]
    Unclosed,
    /// A name that stands for nothing.
    #[error("nothing is called {name:?} here")]
    Unknown {
        /// What stands between the braces.
        name: String,
    },
}

impl Template {
    /// Parses a text in which `${NAME}` stands for a variable.
    ///
    /// # Errors
    /// [`TemplateError`] names the first place that is none.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, reference)) = rest.split_once("${") {
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let (name, behind) = reference.split_once('}').ok_or(TemplateError::Unclosed)?;
            let unknown = || TemplateError::Unknown { name: name.to_owned() };
            parts.push(Part::Variable(Variable::of(name).ok_or_else(unknown)?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts: parts.into() })
    }

    /// Whether it says the same for every request.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// What was written between variables.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Variable(_) => None,
        })
    }

    /// What it begins with, if that is a variable.
    #[must_use]
    pub fn first_variable(&self) -> Option<Variable> {
        match self.parts.first() {
            Some(Part::Variable(variable)) => Some(*variable),
            _ => None,
        }
    }

    /// Adds what it says for a request to `out`.
    pub fn render(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => out.extend_from_slice(values.of(*variable)),
            }
        }
    }
}

/// Replaces `out` by a `Location` (RFC 9110 §10.2.2): what could not stand in a URI is written in percent, and what begins with
/// a path is no other host's, as `//host` would be.
pub fn render_location(template: &Template, values: &Values<'_>, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    template.render(values, &mut text);
    let slashes = text.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    out.clear();
    for &byte in &text[slashes.saturating_sub(1)..] {
        // RFC 3986 §2: all that is neither reserved nor unreserved.
        if byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            out.push(byte);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values {
        client_address: b"10.0.0.1",
        authority: b"a.example:8080",
        path: b"/x/y",
        query: b"?q=1",
        scheme: b"https",
        method: b"GET",
        request_id: b"id",
        listener: b"web",
        channel: b"all",
    };

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let template = Template::parse(text).expect(text);
        let mut out = b"> ".to_vec();
        template.render(&VALUES, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("> {expected}"));
        assert_eq!(template.is_fixed(), text == expected);
    }

    #[test]
    fn a_text_says_what_the_request_puts_in() {
        check("", "");
        check("plain $ { }", "plain $ { }");
        check("${scheme}://${host}${path}${query}", "https://a.example/x/y?q=1");
        check("${client_address} ${authority} ${method}", "10.0.0.1 a.example:8080 GET");
        check("${listener}/${channel}/${request_id}", "web/all/id");
        assert_eq!(Template::parse("a${host"), Err(TemplateError::Unclosed));
        for name in ["", "Host", "HOST", "host ", "uri"] {
            let unknown = TemplateError::Unknown { name: name.to_owned() };
            assert_eq!(Template::parse(&format!("${{{name}}}")), Err(unknown));
        }
    }

    #[track_caller]
    fn check_location(text: &str, path: &str, expected: &str) {
        let mut out = b"before".to_vec();
        let values = Values { path: path.as_bytes(), ..VALUES };
        render_location(&Template::parse(text).expect(text), &values, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_location_stays_where_it_was_meant_and_is_a_uri() {
        check_location("https://${host}${path}${query}", "/a", "https://a.example/a?q=1");
        check_location("${path}", "//evil.example/", "/evil.example/");
        check_location("${path}", "///evil.example/", "/evil.example/");
        check_location("/${path}", "/a", "/a");
        check_location("${path}", "/a//b", "/a//b");
        check_location("/new${path}", "/\"<>^`{|}%41", "/new/%22%3C%3E%5E%60%7B%7C%7D%41");
    }
}
