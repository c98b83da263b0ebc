//! How an access or audit line is printed: JSON, or for eyes.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::Version;

use super::access::Line;
use super::text::{clip, push_json, push_number, push_thousandths, push_time, push_word};

impl Line<'_> {
    /// Appends the line as a JSON object, without a line feed.
    pub(super) fn push_as_json(&self, out: &mut String, now: Duration, audit: Option<&str>) {
        out.push_str("{\"time\":\"");
        push_time(out, now);
        out.push('"');
        self.each_text(audit, |name, text| {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_json(out, text);
        });
        if let Some(client) = self.client {
            out.push_str(",\"client\":\"");
            push_address(out, client);
            out.push('"');
        }
        for (name, number) in [
            (",\"status\":", u64::from(self.status)),
            (",\"bytes_in\":", self.bytes_in),
            (",\"bytes_out\":", self.bytes_out),
        ] {
            out.push_str(name);
            push_number(out, number);
        }
        out.push_str(",\"duration_ms\":");
        push_millis(out, self.duration);
        if let Some(upstream) = self.upstream {
            out.push_str(",\"upstream_ms\":");
            push_millis(out, upstream);
        }
        out.push('}');
    }

    /// Appends the line as `name=value` pairs, without a line feed.
    pub(super) fn push_for_eyes(&self, out: &mut String, now: Duration, audit: Option<&str>) {
        push_time(out, now);
        out.push(' ');
        push_number(out, u64::from(self.status));
        self.each_text(audit, |name, text| {
            out.push(' ');
            out.push_str(name);
            out.push('=');
            push_word(out, text);
        });
        if let Some(client) = self.client {
            out.push_str(" client=");
            push_address(out, client);
        }
        out.push_str(" bytes_in=");
        push_number(out, self.bytes_in);
        out.push_str(" bytes_out=");
        push_number(out, self.bytes_out);
        out.push_str(" duration_ms=");
        push_millis(out, self.duration);
        if let Some(upstream) = self.upstream {
            out.push_str(" upstream_ms=");
            push_millis(out, upstream);
        }
    }

    /// Gives each text of the line with its name, in the order of the line, clipped.
    fn each_text(&self, audit: Option<&str>, mut push: impl FnMut(&'static str, &str)) {
        let path = self.path.split('?').next().unwrap_or_default();
        let texts = [
            ("audit", audit),
            ("kind", Some(self.kind.word())),
            ("request_id", Some(self.request_id)),
            ("method", Some(self.method)),
            ("host", self.host),
            ("path", Some(path)),
            ("route", self.route),
            ("auth", Some(self.auth.word())),
            ("reason", self.reason),
            ("user_id", self.user_id),
            ("email", self.email),
            ("session_id", self.session_id),
            ("issuer", self.issuer),
            ("job_id", self.job_id),
            ("endpoint", self.endpoint),
            ("end", self.end),
            ("protocol", Some(protocol(self.protocol))),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                push(name, clip(text, TEXT_MAX));
            }
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "other",
    }
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut String, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    out.push('.');
    push_thousandths(out, micros % 1000);
}

fn push_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                push_number(out, u64::from(octet));
            }
        }
        // Writing to a String can not fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// What a client sends may be long; a line is not.
const TEXT_MAX: usize = 2048;
