//! Which rule did a message break? One variant per rule, its section of the standard beside it.
//!
//! Says what was broken and what a client is told; never what the connection does next: after any of these
//! nothing more is read from it (RFC 9112 §9.3, "message could not be framed").

use crate::rule::rules;

rules! {
    /// A rule of lines and fields, the same for requests and responses.
    pub enum SyntaxRejected {
        /// A line feed without a carriage return before it. RFC 9112 §2.2 lets a recipient accept it; two
        /// recipients that differ in this see different messages, so it is refused.
        BareLineFeed = "bare_line_feed",
        /// A carriage return not followed by a line feed, RFC 9112 §2.2.
        BareCarriageReturn = "bare_carriage_return",
        /// The head is longer than `head_bytes_max`, RFC 6585 §5.
        HeadTooLarge = "head_too_large",
        /// More field lines than `fields_max`, RFC 6585 §5.
        FieldsTooMany = "fields_too_many",
        /// White space between the start line and the first field, RFC 9112 §2.2.
        FieldLeadingSpace = "field_leading_space",
        /// A folded field line, RFC 9112 §5.2.
        FieldFolded = "field_folded",
        /// A field line without a colon, RFC 9112 §5.
        FieldColonMissing = "field_colon_missing",
        /// A field line without a name, RFC 9110 §5.1.
        FieldNameEmpty = "field_name_empty",
        /// White space between name and colon, RFC 9112 §5.1.
        FieldSpaceBeforeColon = "field_space_before_colon",
        /// A byte that is not a token's in a field name, RFC 9110 §5.1.
        FieldNameByte = "field_name_byte",
        /// A control byte in a field value, RFC 9110 §5.5.
        FieldValueByte = "field_value_byte",
        /// `Connection` names more fields than [`super::persist::CONNECTION_NAMES_MAX`], RFC 9110 §7.6.1.
        ConnectionNamesTooMany = "connection_names_too_many",
    }
}

rules! {
    /// A rule of message body length, RFC 9112 §6.
    pub enum FramingRejected {
        /// `Content-Length` beside `Transfer-Encoding`, RFC 9112 §6.1.
        LengthWithTransferEncoding = "length_with_transfer_encoding",
        /// More than one `Content-Length`, as lines or as a list, even of the same value. RFC 9110 §8.6 allows
        /// to refuse it.
        LengthRepeated = "length_repeated",
        /// `Content-Length` is not all digits, RFC 9110 §8.6.
        LengthInvalid = "length_invalid",
        /// `Content-Length` of 2^63 or more: RFC 9110 §8.6 asks to anticipate large numbers, and a peer that
        /// counts in signed 64 bits must not read a different length than we did.
        LengthOverflow = "length_overflow",
        /// `Transfer-Encoding` in an HTTP/1.0 message, RFC 9112 §6.1.
        TransferEncodingInHttp10 = "transfer_encoding_in_http10",
        /// `Transfer-Encoding` that is not a list of codings, RFC 9112 §6.1.
        TransferEncodingInvalid = "transfer_encoding_invalid",
        /// `chunked` applied more than once, RFC 9112 §6.1.
        ChunkedRepeated = "chunked_repeated",
        /// The last coding is not `chunked`, RFC 9112 §6.3.
        ChunkedNotLast = "chunked_not_last",
        /// A coding besides `chunked`, RFC 9112 §6.1 and §7.
        TransferCodingUnsupported = "transfer_coding_unsupported",
    }
}

rules! {
    /// A rule of request lines and of fields that only requests have.
    pub enum RequestRule {
        /// More than [`super::head::EMPTY_LINES_MAX`] empty lines before the request line, RFC 9112 §2.2.
        EmptyLinesTooMany = "empty_lines_too_many",
        /// Not `method SP target SP version`, RFC 9112 §3.
        RequestLineMalformed = "request_line_malformed",
        /// The method is not a token, RFC 9112 §3.1.
        MethodInvalid = "method_invalid",
        /// The method is longer than [`super::head::METHOD_BYTES_MAX`], RFC 9112 §3.
        MethodTooLong = "method_too_long",
        /// The target is longer than `target_bytes_max`, RFC 9110 §15.5.15.
        TargetTooLong = "target_too_long",
        /// A control byte, a byte beyond ASCII or a `#` in the target, or a `\` in its path, which some servers take
        /// for a `/`, RFC 9112 §3.2.
        TargetByte = "target_byte",
        /// The target is neither origin-form nor absolute-form, RFC 9112 §3.2.
        TargetFormUnknown = "target_form_unknown",
        /// `*` with another method than OPTIONS, RFC 9112 §3.2.4.
        TargetAsteriskWithoutOptions = "target_asterisk_without_options",
        /// CONNECT with a target that is not `host:port`, RFC 9112 §3.2.3.
        TargetNotAuthority = "target_not_authority",
        /// An absolute-form target whose scheme is neither http nor https, RFC 9110 §7.4.
        TargetSchemeUnsupported = "target_scheme_unsupported",
        /// An absolute-form target whose scheme is https over a connection that is not secured, RFC 9110 §7.4.
        TargetSchemeUnsecured = "target_scheme_unsecured",
        /// An absolute-form target with an empty or invalid authority, or with user information,
        /// RFC 9110 §4.2.1 and §4.2.4.
        TargetAuthorityInvalid = "target_authority_invalid",
        /// Not `HTTP/digit.digit`, RFC 9112 §2.3.
        VersionInvalid = "version_invalid",
        /// A major version other than 1, RFC 9110 §15.6.6.
        VersionUnsupported = "version_unsupported",
        /// No `Host` in an HTTP/1.1 request, RFC 9112 §3.2.
        HostMissing = "host_missing",
        /// More than one `Host`, RFC 9112 §3.2.
        HostRepeated = "host_repeated",
        /// `Host` is empty or not `host[:port]`, RFC 9112 §3.2 and RFC 9110 §4.2.1.
        HostInvalid = "host_invalid",
        /// `Host` names another authority than the absolute-form target, RFC 9112 §3.2.
        HostDiffers = "host_differs",
        /// `Expect` asks for something else than `100-continue`, RFC 9110 §10.1.1.
        ExpectationUnknown = "expectation_unknown",
        /// `Max-Forwards` of OPTIONS or TRACE is not one number, RFC 9110 §7.6.2.
        MaxForwardsInvalid = "max_forwards_invalid",
        /// `Content_Length` or `Transfer_Encoding`: an endpoint that hands fields on as variables, RFC 3875 §4.1.18,
        /// takes them for the fields that frame a body, RFC 9112 §6.
        FramingLookalike = "framing_lookalike",
    }
}

rules! {
    /// A rule of status lines.
    pub enum ResponseRule {
        /// Not `version SP three digits [SP reason]`, RFC 9112 §4.
        StatusLineMalformed = "status_line_malformed",
        /// A version that is not HTTP/1, RFC 9112 §2.3.
        ResponseVersionInvalid = "response_version_invalid",
        /// A status outside 100 to 599, RFC 9110 §15.
        StatusInvalid = "status_invalid",
        /// A control byte in the reason phrase, RFC 9112 §4.
        ReasonByte = "reason_byte",
    }
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RequestRejected {
    /// Lines and fields.
    #[error(transparent)]
    Syntax(#[from] SyntaxRejected),
    /// Body length.
    #[error(transparent)]
    Framing(#[from] FramingRejected),
    /// Request line, `Host`, `Expect`.
    #[error(transparent)]
    Request(#[from] RequestRule),
}

impl RequestRejected {
    /// How many there are; each [`Self::index`] is below it.
    pub const COUNT: usize = SyntaxRejected::ALL.len() + FramingRejected::ALL.len() + RequestRule::ALL.len();

    /// All of them, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let syntax = SyntaxRejected::ALL.iter().copied().map(Self::Syntax);
        let framing = FramingRejected::ALL.iter().copied().map(Self::Framing);
        syntax.chain(framing).chain(RequestRule::ALL.iter().copied().map(Self::Request))
    }

    /// Its place among all, for an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Syntax(rule) => rule as usize,
            Self::Framing(rule) => SyntaxRejected::ALL.len() + rule as usize,
            Self::Request(rule) => SyntaxRejected::ALL.len() + FramingRejected::ALL.len() + rule as usize,
        }
    }

    /// The rule's label in counters and logs, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax(rule) => rule.name(),
            Self::Framing(rule) => rule.name(),
            Self::Request(rule) => rule.name(),
        }
    }

    /// The status the client is answered with, before the connection closes.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Syntax(SyntaxRejected::HeadTooLarge | SyntaxRejected::FieldsTooMany) => 431,
            Self::Framing(FramingRejected::TransferCodingUnsupported)
            | Self::Request(RequestRule::MethodTooLong) => 501,
            Self::Request(RequestRule::TargetTooLong) => 414,
            Self::Request(RequestRule::ExpectationUnknown) => 417,
            Self::Request(RequestRule::TargetSchemeUnsecured) => 421,
            Self::Request(RequestRule::VersionUnsupported) => 505,
            Self::Syntax(_) | Self::Framing(_) | Self::Request(_) => 400,
        }
    }
}

/// Why a response head is refused. The client is told 502 whichever it is (RFC 9110 §15.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ResponseRejected {
    /// Lines and fields.
    #[error(transparent)]
    Syntax(#[from] SyntaxRejected),
    /// Body length.
    #[error(transparent)]
    Framing(#[from] FramingRejected),
    /// Status line.
    #[error(transparent)]
    Response(#[from] ResponseRule),
}

impl ResponseRejected {
    /// How many there are; each [`Self::index`] is below it.
    pub const COUNT: usize = SyntaxRejected::ALL.len() + FramingRejected::ALL.len() + ResponseRule::ALL.len();

    /// All of them, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let syntax = SyntaxRejected::ALL.iter().copied().map(Self::Syntax);
        let framing = FramingRejected::ALL.iter().copied().map(Self::Framing);
        syntax.chain(framing).chain(ResponseRule::ALL.iter().copied().map(Self::Response))
    }

    /// Its place among all, for an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Syntax(rule) => rule as usize,
            Self::Framing(rule) => SyntaxRejected::ALL.len() + rule as usize,
            Self::Response(rule) => SyntaxRejected::ALL.len() + FramingRejected::ALL.len() + rule as usize,
        }
    }

    /// The rule's label in counters and logs, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax(rule) => rule.name(),
            Self::Framing(rule) => rule.name(),
            Self::Response(rule) => rule.name(),
        }
    }

    /// The status the client is answered with: 502.
    #[must_use]
    pub const fn status(self) -> u16 {
        502
    }
}
