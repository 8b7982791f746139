//! In which of two forms is the exposition given? OpenMetrics to who asks for it, as a Prometheus does, else the plain text that
//! every tool reads.
//!
//! Never says less in one of them: the second is made of the first, line by line.

/// A form of the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Plain,
}

impl Form {
    /// Its media type, as `Content-Type` says it.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What the values of `Accept` prefer (RFC 9110 §12.5.1): OpenMetrics only where it is named, and liked no less.
    pub(crate) fn preferred<'v>(accept: impl Iterator<Item = &'v str>) -> Self {
        let (mut open, mut plain) = (0, 0);
        for range in accept.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: Vec<&str> = parts.collect();
            let liking = parameters.iter().find_map(|parameter| quality(parameter)).unwrap_or(1_000);
            if media.eq_ignore_ascii_case("application/openmetrics-text") {
                let has_version = |parameter: &&str| parameter.starts_with("version=");
                // 0.0.1 is the draft: what is new since is not written.
                let version = parameters.iter().find(|parameter| has_version(parameter));
                if version.is_none_or(|version| matches!(*version, "version=1.0.0" | "version=0.0.1")) {
                    open = liking.max(open);
                }
            } else if ["text/plain", "text/*", "*/*"].iter().any(|known| media.eq_ignore_ascii_case(known)) {
                plain = liking.max(plain);
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Plain }
    }

    /// OpenMetrics text in this form.
    pub(super) fn of(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Plain => plain(&text),
        }
    }
}

/// A `q` in thousandths; what is not a number is not liked.
fn quality(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    Some(value.parse::<f32>().map_or(0, |liking| (liking.clamp(0.0, 1.0) * 1_000.0) as u16))
}

/// The same in text 0.0.4: there a family bears the name of its samples, there are no units, and the end is the end.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Help comes before the type that decides over the name.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take() {
                out.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_given_to_who_names_it_and_likes_it_no_less() {
        let check = |accept: &[&str], expected| {
            assert_eq!(Form::preferred(accept.iter().copied()), expected, "{accept:?}");
        };
        check(&[], Form::Plain);
        check(&["*/*"], Form::Plain);
        check(&["text/plain"], Form::Plain);
        check(&["application/openmetrics-text"], Form::OpenMetrics);
        check(&["Application/OpenMetrics-Text; version=1.0.0; q=0.2"], Form::OpenMetrics);
        check(&["application/openmetrics-text;q=0"], Form::Plain);
        check(&["application/openmetrics-text;version=2.0.0"], Form::Plain);
        check(&["application/openmetrics-text;q=0.3,text/plain;q=0.5"], Form::Plain);
        check(&["text/plain;q=0.5", "application/openmetrics-text;q=0.5"], Form::OpenMetrics);
        check(&["application/openmetrics-text;q=nonsense"], Form::Plain);
        check(&[",;,;;q=,"], Form::Plain);
        // As a Prometheus 2.42 and a 3 ask.
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(&[old], Form::OpenMetrics);
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        check(&[new], Form::OpenMetrics);
    }

    #[test]
    fn a_family_bears_the_name_of_its_samples_in_plain_text() {
        let open = "# HELP a_bytes What is said.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# no\"} 1\n\
                    # HELP b Which.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP c_seconds How long.\n# TYPE c_seconds histogram\n\
                    # UNIT c_seconds seconds\nc_seconds_sum 0.5\nc_seconds_count 1\nc_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP d Now.\n# TYPE d gauge\nd 4\n# EOF\n";
        let expected = "# HELP a_bytes_total What is said.\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# no\"} 1\n\
                        # HELP b_info Which.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c_seconds How long.\n\
                        # TYPE c_seconds histogram\nc_seconds_sum 0.5\nc_seconds_count 1\nc_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP d Now.\n# TYPE d gauge\nd 4\n";
        assert_eq!(Form::Plain.of(open.to_owned()), expected);
        assert_eq!(Form::OpenMetrics.of(open.to_owned()), open);
    }
}
