//! Answers that the upstream compressed, read within a bound: a small answer may unpack to any size.

use std::io::Read;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is packed in a way that is not known here.
    Unknown,
    /// It unpacks to more than the bound.
    TooLarge,
    /// It does not unpack.
    Broken,
}

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// `bytes` without the codings that the headers tell of, the last of them first; at most `most`.
///
/// # Errors
/// When they cannot be read.
pub fn decode(headers: &HeaderMap, bytes: Vec<u8>, most: usize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = bytes;
    for coding in codings(headers)?.into_iter().rev() {
        bytes = unpack(coding, &bytes, most)?;
    }
    Ok(bytes)
}

fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, Unreadable> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| Unreadable::Unknown)?;
        for name in value.split(',').map(str::trim) {
            match &*name.to_ascii_lowercase() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                "br" => codings.push(Coding::Brotli),
                "zstd" => codings.push(Coding::Zstd),
                _ => return Err(Unreadable::Unknown),
            }
        }
    }
    match codings.len() {
        0..=MOST_CODINGS => Ok(codings),
        _ => Err(Unreadable::Unknown),
    }
}

fn unpack(coding: Coding, bytes: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
    match coding {
        Coding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), most),
        // RFC 9110 §8.4.1.2: zlib; some send it bare.
        Coding::Deflate => match read(flate2::read::ZlibDecoder::new(bytes), most) {
            Err(Unreadable::Broken) => read(flate2::read::DeflateDecoder::new(bytes), most),
            read => read,
        },
        Coding::Brotli => read(
            brotli_decompressor::Decompressor::new(bytes, BROTLI_BUFFER),
            most,
        ),
        Coding::Zstd => {
            let decoder =
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, WINDOW);
            read(decoder.map_err(|_| Unreadable::Broken)?, most)
        }
    }
}

fn read(reader: impl Read, most: usize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    let mut bounded = reader.take(most as u64 + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|_| Unreadable::Broken)?;
    match bytes.len() > most {
        true => Err(Unreadable::TooLarge),
        false => Ok(bytes),
    }
}

const MOST_CODINGS: usize = 2;
const BROTLI_BUFFER: usize = 4096;
/// RFC 9659: what a decoder of HTTP answers must be ready for.
const WINDOW: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;

    use super::*;

    fn headers(codings: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        headers
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut packed =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn each_coding_is_unpacked() {
        let text = b"{}".repeat(20);
        let zstd = ruzstd::encoding::compress_to_vec(
            &text[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        for (codings, packed) in [
            (&[][..], text.clone()),
            (&["identity"], text.clone()),
            (&["gzip"], gzip(&text)),
            (&["X-GZip, identity"], gzip(&text)),
            (&["deflate"], zlib(&text)),
            (&["deflate"], bare(&text)),
            (&["deflate", "gzip"], gzip(&zlib(&text))),
            (&["deflate, gzip"], gzip(&zlib(&text))),
            (&["zstd"], zstd),
        ] {
            let unpacked = decode(&headers(codings), packed, 100);
            assert_eq!(unpacked, Ok(text.clone()), "{codings:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let large = gzip(&vec![b'x'; 1_000_000]);
        let cut = gzip(b"a text")[..15].to_vec();
        for (codings, packed, why) in [
            (&["gzip"][..], large, Unreadable::TooLarge),
            (&["gzip"], cut, Unreadable::Broken),
            (&["gzip"], b"plain".to_vec(), Unreadable::Broken),
            (&["br"], b"plain".to_vec(), Unreadable::Broken),
            (&["zstd"], b"plain".to_vec(), Unreadable::Broken),
            (&["rot13"], b"plain".to_vec(), Unreadable::Unknown),
            (&["gzip, gzip, gzip"], Vec::new(), Unreadable::Unknown),
        ] {
            assert_eq!(
                decode(&headers(codings), packed, 100),
                Err(why),
                "{codings:?}"
            );
        }
    }
}
