//! How is a family of metrics written? Its name, help and unit once, then a line for each object it is known of.
//!
//! Never decides what there is to tell: see the parent.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::buckets::Buckets;
use crate::catalogue::{Entry, Kind, sum};

/// Which object a number is of.
pub(super) type Labels = Vec<(&'static str, String)>;

/// `labels` and one more.
pub(super) fn with(labels: &[(&'static str, String)], key: &'static str, value: &str) -> Labels {
    [labels, &[(key, value.to_owned())]].concat()
}

/// Writes one family after the other.
pub(super) struct Families<'e>(pub(super) DescriptorEncoder<'e>);

impl Families<'_> {
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, &format!("{help}."), unit, kind)
    }

    /// What something is called, as labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.begin(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    /// One number that moves both ways.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.begin(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// One duration, or one moment since the Unix epoch.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.begin(name, help, Some(&Unit::Seconds), MetricType::Gauge)?.encode_gauge(&value)
    }

    /// One number of bytes.
    pub(super) fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.begin(name, help, Some(&Unit::Bytes), MetricType::Gauge)?.encode_gauge(&value)
    }

    /// One sum of durations that only grows.
    pub(super) fn seconds_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.begin(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A sum of durations that only grows, for each object.
    pub(super) fn seconds_counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge for each object.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A gauge that is 0 or 1 for each object.
    pub(super) fn flags(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, bool)>,
    ) -> fmt::Result {
        let mut metric = self.begin(name, help, None, MetricType::Gauge)?;
        for (labels, is_so) in series {
            metric.encode_family(&labels)?.encode_gauge(&u64::from(is_so))?;
        }
        Ok(())
    }

    /// A counter for each object.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A histogram for each row.
    pub(super) fn durations(&mut self, name: &str, help: &str, rows: &[(Labels, Buckets)]) -> fmt::Result {
        let mut metric = self.begin(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, buckets) in rows {
            let mut family = metric.encode_family(labels)?;
            family.encode_histogram::<NoLabelSet>(
                buckets.sum_seconds,
                buckets.count,
                &buckets.counts,
                None,
            )?;
        }
        Ok(())
    }

    /// A family for each entry of the catalogue, with a series for each object, summed over its shards.
    pub(super) fn entries<S>(
        &mut self,
        prefix: &str,
        entries: &[Entry<S>],
        objects: &[(Labels, Vec<&S>)],
    ) -> fmt::Result {
        let mut name = String::new();
        for entry in entries {
            name.clear();
            write!(name, "{prefix}_{}", entry.metric)?;
            let kind = match entry.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = self.begin(&name, entry.help, entry.unit.as_ref(), kind)?;
            for (labels, shards) in objects {
                let value = sum(shards.iter().copied(), entry.read);
                let mut series = metric.encode_family(labels)?;
                match entry.kind {
                    Kind::Counter => series.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                    Kind::Gauge => series.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }
}
