//! Pictures as files: whole, or one range of them (RFC 9110 §14).

use std::ops::Range;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::answer;
use crate::body::Body;

/// The answer to a request for `file`; one good range gives 206, one beyond the end 416.
pub fn serve(name: &str, file: &Bytes, request: &HeaderMap) -> Response<Body> {
    // A name is made of the job's id, and a job's picture never changes: the name is the tag.
    let tag = format!("\"{name}\"");
    let wanted = request
        .get(RANGE)
        .filter(|_| request.get(IF_RANGE).is_none_or(|of| of == tag.as_str()))
        .and_then(|range| range.to_str().ok())
        .map_or(Wanted::Whole, |range| wanted(range, file.len()));
    let mut response = match &wanted {
        Wanted::Whole => answer::bytes(StatusCode::OK, "image/png", file.clone()),
        Wanted::Part(range) => answer::bytes(
            StatusCode::PARTIAL_CONTENT,
            "image/png",
            file.slice(range.clone()),
        ),
        Wanted::Beyond => answer::error(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "the file ends before that",
        ),
    };
    let length = file.len();
    set(&mut response, ACCEPT_RANGES, "bytes");
    match wanted {
        Wanted::Whole => {}
        Wanted::Part(range) => {
            let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            set(&mut response, CONTENT_RANGE, &text);
        }
        Wanted::Beyond => {
            set(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
    }
    set(&mut response, ETAG, &tag);
    let disposition = format!("inline; filename={tag}");
    set(&mut response, CONTENT_DISPOSITION, &disposition);
    response
}

/// What part of a file a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<usize>),
    Beyond,
}

/// Several ranges, other units and nonsense mean the whole file, as RFC 9110 §14.2 allows.
fn wanted(range: &str, length: usize) -> Wanted {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|set| !set.contains(','))
        .and_then(|set| set.trim().split_once('-'))
    else {
        return Wanted::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first > last => Wanted::Whole,
        (Ok(first), _) if first >= length => Wanted::Beyond,
        (Ok(first), Ok(last)) => Wanted::Part(first..last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => Wanted::Part(first..length),
        (Err(_), Ok(0)) if first.is_empty() => Wanted::Beyond,
        (Err(_), Ok(tail)) if first.is_empty() => Wanted::Part(length.saturating_sub(tail)..length),
        _ => Wanted::Whole,
    }
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_rfc_says() {
        for (range, expected) in [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=4-", Wanted::Part(4..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=8-99", Wanted::Part(8..10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(range, 10), expected, "{range}");
        }
    }

    #[test]
    fn a_part_says_where_it_stands() {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_static("bytes=2-5"));
        let response = serve("a.png", &Bytes::from_static(b"0123456789"), &request);
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes 2-5/10");
    }

    #[test]
    fn a_range_of_another_version_gives_the_whole() {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_static("bytes=2-5"));
        request.insert(IF_RANGE, HeaderValue::from_static("\"b.png\""));
        let response = serve("a.png", &Bytes::from_static(b"0123456789"), &request);
        assert_eq!(response.status(), StatusCode::OK);
    }
}
