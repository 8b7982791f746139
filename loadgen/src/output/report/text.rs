//! How does a summary read on a terminal?
//!
//! Says what the summary holds, rounded for people; never computes a figure of its own.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::named::write_named;
use crate::output::report::Summary;
use crate::protocol::Unit;
use crate::units::{show_bytes, show_count, show_duration, show_nanoseconds};

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, duration) = (&self.requests, Duration::from_secs_f64(self.duration_s));
        writeln!(formatter, "{}", self.url)?;
        writeln!(
            formatter,
            "{} connections, {} threads, {}, {}, {}\n",
            self.connections,
            self.threads,
            self.load,
            show_duration(Duration::from_millis(duration.as_millis() as u64)),
            self.driver,
        )?;
        writeln!(
            formatter,
            "{:<10} {} sent = {} completed + {} failed + {} unanswered; {} never sent",
            self.unit,
            show_count(requests.sent),
            show_count(requests.completed),
            show_count(requests.failed),
            show_count(requests.unanswered),
            show_count(requests.unsent)
        )?;
        self.write_rate(formatter)?;
        if self.unit == Unit::Requests.name() {
            let statuses: Vec<String> = self
                .statuses
                .iter()
                .map(|(status, count)| format!("{status}: {}", show_count(*count)))
                .collect();
            let statuses = if statuses.is_empty() { "none".into() } else { statuses.join(", ") };
            writeln!(formatter, "status     {statuses}")?;
        }
        if matches!(self.unit, "requests" | "messages") {
            writeln!(
                formatter,
                "opened     {} connections, {} of them closed by --requests-per-connection, {} lost between two {}",
                show_count(self.generator.connects),
                show_count(self.generator.retired),
                show_count(self.generator.reconnects),
                self.unit
            )?;
        }
        if let Some(delivery) = &self.delivery {
            writeln!(formatter, "delivered  {delivery}")?;
        }
        if let Some(tls) = &self.tls {
            write!(formatter, "{tls}")?;
        }
        self.write_errors(formatter)?;
        self.write_latency(formatter)?;
        write_named(&self.named, formatter)?;
        if let Some(target) = &self.target {
            writeln!(formatter, "\ntarget     {target}")?;
        }
        for warning in self.warnings() {
            writeln!(formatter, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl Summary {
    fn write_rate(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = &self.bytes;
        let [sent, received, both] =
            [bytes.sent, bytes.received, bytes.sent + bytes.received].map(|bytes| show_bytes(bytes as f64));
        if self.latency_ns.is_none() {
            writeln!(formatter, "sent       {sent}, {}/s", show_bytes(bytes.sent_per_s))?;
            writeln!(formatter, "received   {received}, {}/s", show_bytes(bytes.received_per_s))?;
            return writeln!(formatter, "both       {both}, {}/s", show_bytes(bytes.both_per_s));
        }
        writeln!(formatter, "rate       {:.1} /s", self.rate.achieved)?;
        writeln!(
            formatter,
            "bytes      {sent} sent, {received} received, {}/s",
            show_bytes(bytes.received_per_s)
        )
    }

    fn write_errors(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "errors     {}", show_count(self.errors.total))?;
        for (kind, count) in &self.errors.by_kind {
            let detail = self.errors.first.get(kind).map_or("", String::as_str);
            writeln!(formatter, "  {kind:<18} {:>12}  first: {detail}", show_count(*count))?;
        }
        Ok(())
    }

    fn write_latency(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(latency), Some(service_time)) = (&self.latency_ns, &self.service_time_ns) else {
            return Ok(());
        };
        if self.requests.completed == 0 {
            return Ok(());
        }
        // In a closed loop on lasting connections both are the same.
        let open = self.rate.requested.is_some();
        let mut heading = format!("\n{:<9}{:>12}", "", "latency");
        if open {
            let _ = write!(heading, "{:>12}", "service");
        }
        writeln!(formatter, "{heading}")?;
        for ((name, latency), (_, service_time)) in latency.rows().into_iter().zip(service_time.rows()) {
            write!(formatter, "  {name:<7}{:>12}", show_nanoseconds(latency))?;
            if open {
                write!(formatter, "{:>12}", show_nanoseconds(service_time))?;
            }
            writeln!(formatter)?;
        }
        if open {
            writeln!(formatter, "latency: from the intended send; service: from the actual one")?;
        }
        write!(formatter, "{}", self.generator)?;
        Ok(())
    }
}
