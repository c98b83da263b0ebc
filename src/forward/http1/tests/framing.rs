use bytes::Bytes;
use http::Method;

use crate::forward::http1::head;
use crate::http1::Fault;
use crate::http1::framing::Framing;

/// The framing in one word.
fn framed(method: Method, head: &str) -> String {
    let bytes = Bytes::from(format!("{head}\r\n\r\n"));
    let (head, _) = head::read(&bytes).unwrap().unwrap();
    match head.framing(&method) {
        Ok(Framing::Length(length)) => length.to_string(),
        Ok(Framing::Chunked(_)) => "chunked".into(),
        Ok(Framing::Close) => "close".into(),
        Err(Fault::Length) => "refused".into(),
        Err(other) => other.to_string(),
    }
}

#[test]
fn an_answer_ends_in_one_way_or_is_refused() {
    let table = [
        ("", "close"),
        ("Content-Length: 0", "0"),
        ("Content-Length: 5", "5"),
        ("Content-Length: 005", "5"),
        ("Content-Length:  5 ", "5"),
        (
            "Content-Length: 18446744073709551615",
            "18446744073709551615",
        ),
        ("Content-Length: 18446744073709551616", "refused"),
        ("Content-Length:", "refused"),
        ("Content-Length: +5", "refused"),
        ("Content-Length: -5", "refused"),
        ("Content-Length: 5 5", "refused"),
        ("Content-Length: 5, 5", "refused"),
        ("Content-Length: 5, 6", "refused"),
        ("Content-Length: 0x5", "refused"),
        ("Content-Length: 5.0", "refused"),
        ("Content-Length: 5\r\nContent-Length: 5", "refused"),
        ("Content-Length: 5\r\nContent-Length: 6", "refused"),
        ("Transfer-Encoding: chunked", "chunked"),
        ("transfer-encoding: CHUNKED", "chunked"),
        ("Transfer-Encoding: gzip, chunked", "refused"),
        ("Transfer-Encoding: chunked, chunked", "refused"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "refused",
        ),
        ("Transfer-Encoding: identity", "refused"),
        ("Transfer-Encoding: xchunked", "refused"),
        ("Transfer-Encoding: chunked;a=b", "refused"),
        ("Transfer-Encoding: \x0bchunked", "refused"),
        ("Transfer-Encoding:", "refused"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "refused"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "refused"),
    ];
    for (fields, expected) in table {
        if fields.contains('\x0b') {
            let bytes = Bytes::from(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            assert!(head::read(&bytes).is_err());
            continue;
        }
        let lines = format!("HTTP/1.1 200 OK\r\n{fields}");
        let lines = lines.trim_end_matches("\r\n");
        assert_eq!(framed(Method::GET, lines), expected, "{fields:?}");
        let bodiless = if expected == "refused" {
            "refused"
        } else {
            "0"
        };
        assert_eq!(framed(Method::HEAD, lines), bodiless, "HEAD {fields:?}");
        for status in ["204", "304", "199", "101"] {
            let lines = lines.replace("200", status);
            assert_eq!(framed(Method::GET, &lines), bodiless, "{lines:?}");
        }
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked";
    assert_eq!(framed(Method::GET, old), "refused");
    assert_eq!(
        framed(Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 5"),
        "5"
    );
}
