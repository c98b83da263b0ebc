//! What the kernel says of this process, from `/proc`; nothing on a system that has none.

use std::{fmt, fs};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// What the process uses. A figure that cannot be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// When the process started, in seconds since the Unix epoch.
    pub started_at: Option<f64>,
}

/// Reads what the process uses now.
pub fn read() -> Usage {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let ticks = ticks(&text("/proc/self/stat"));
    let booted_at = field(&text("/proc/stat"), "btime");
    Usage {
        resident_bytes: field(&text("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024.0),
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|files| files.count() as f64),
        cpu_seconds: ticks.map(|(used, _)| used / TICKS_PER_SECOND),
        started_at: booted_at
            .zip(ticks)
            .map(|(booted_at, (_, start))| booted_at + start / TICKS_PER_SECOND),
    }
}

/// Shows what the process uses, under the names that Prometheus' own clients give.
pub(super) fn encode(page: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The version that runs";
    page.encode_descriptor("portcullis_build_info", help, None, MetricType::Gauge)?
        .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
        .encode_gauge(&1_u64)?;
    let usage = read();
    for (name, help, figure) in [
        (
            "process_resident_memory_bytes",
            "Resident memory",
            usage.resident_bytes,
        ),
        ("process_open_fds", "Open file descriptors", usage.open_fds),
        (
            "process_start_time_seconds",
            "Start time since the Unix epoch",
            usage.started_at,
        ),
    ] {
        if let Some(figure) = figure {
            page.encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&figure)?;
        }
    }
    if let Some(seconds) = usage.cpu_seconds {
        let help = "CPU time, user and system";
        page.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
    }
    Ok(())
}

/// The number that follows `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU time used and start time since boot, in ticks. Counted from the last `)`, because the program's
/// name before it may hold anything (proc(5)).
fn ticks(stat: &str) -> Option<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((number(11)? + number(12)?, number(19)?))
}

/// `USER_HZ`, which Linux shows to programs as 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 12345 9 9";
        assert_eq!(ticks(stat), Some((200.0, 12345.0)));
        assert_eq!(ticks("nothing"), None);
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        assert_eq!(
            field("VmPeak: 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:"),
            Some(12.0)
        );
        assert_eq!(field("cpu 1\nbtime 17\n", "btime"), Some(17.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_everything() {
        let usage = read();
        assert!(usage.resident_bytes > Some(0.0));
        assert!(usage.open_fds > Some(0.0));
        assert!(usage.started_at > Some(0.0));
        assert!(usage.cpu_seconds.is_some());
    }
}
