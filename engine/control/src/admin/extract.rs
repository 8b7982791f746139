//! What do the path and the query of a request say? Read as axum does, refused as everything here is.
//!
//! Never answers a mistake with anything but a [`Refusal`].

use axum::extract::{FromRequestParts, Path as AxumPath};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;

/// The parts of the path that the route leaves open.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match AxumPath::from_request_parts(parts, state).await {
            Ok(AxumPath(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.body_text())
                .at("path")
                .help("write every byte that is no letter or digit as %XX, in UTF-8")),
        }
    }
}

/// The parameters of a query, in their order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        match query {
            Ok(axum::extract::Query(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.body_text()).at("query")),
        }
    }
}

impl Query {
    /// All of them, for whoever knows what they mean.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The values of these parameters, `None` for one that is left out.
    ///
    /// # Errors
    /// When there is another, or one of them twice.
    pub(super) fn only<const N: usize>(
        &self,
        known: [&'static str; N],
    ) -> Result<[Option<&str>; N], Refusal> {
        let mut values = [None; N];
        for (name, value) in &self.0 {
            let Some(at) = known.iter().position(|known| known == name) else {
                let cause = format!("there is no parameter {name:?}");
                let help = if N == 0 {
                    "leave the query out".into()
                } else {
                    format!("known: {}", known.join(", "))
                };
                return Err(Refusal::new(StatusCode::BAD_REQUEST, cause).at("query").help(help));
            };
            if values[at].replace(value.as_str()).is_some() {
                let cause = format!("{name} is given more than once");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, cause).at("query"));
            }
        }
        Ok(values)
    }
}

/// A whole number of a query within these bounds; `default` where it is left out.
pub(super) fn number(
    name: &'static str,
    value: Option<&str>,
    bounds: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, Refusal> {
    let Some(text) = value else { return Ok(default) };
    // No sign, no blank: what std's parser takes besides digits is a plus.
    let number = text.parse().ok().filter(|number| !text.starts_with('+') && bounds.contains(number));
    number.ok_or_else(|| {
        let (least, greatest) = bounds.into_inner();
        let cause = format!("expected a whole number from {least} to {greatest}, found {text:?}");
        Refusal::new(StatusCode::BAD_REQUEST, cause).at(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn a_query_is_taken_as_a_whole_or_refused() {
        assert_eq!(query("b=2&a=1").only(["a", "b", "c"]).expect("known"), [Some("1"), Some("2"), None]);
        assert!(query("").only([]).is_ok());
        let refused = |text: &str| query(text).only(["a", "b"]).expect_err(text).error;
        assert_eq!(refused("a=1&d=2"), "there is no parameter \"d\"");
        assert_eq!(refused("a=1&a=2"), "a is given more than once");
    }

    #[test]
    fn a_number_of_a_query_is_digits_within_its_bounds() {
        let read = |text| number("limit", text, 1..=100, 50).map_err(|refusal| refusal.error);
        assert_eq!(read(None), Ok(50));
        assert_eq!(read(Some("100")), Ok(100));
        for text in ["0", "101", "-1", "+1", "1.0", " 1", "", "99999999999999999999"] {
            let expected = format!("expected a whole number from 1 to 100, found {text:?}");
            assert_eq!(read(Some(text)), Err(expected));
        }
    }
}
