//! Which language a client reads, by its `Accept-Language` (RFC 9110 §12.5.4).

use http::{HeaderMap, header};

use super::Language;

impl Language {
    /// The language that the client prefers of those that we have; `default` where it names none of them.
    #[must_use]
    pub fn preferred(headers: &HeaderMap, default: Self) -> Self {
        let Some(wanted) = headers.get(header::ACCEPT_LANGUAGE) else {
            return default;
        };
        let mut best = (0, default);
        for item in wanted
            .to_str()
            .unwrap_or_default()
            .split(',')
            .take(ITEMS_MAX)
        {
            if let Some((language, weight)) = read_item(item)
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// `zh-CN;q=0.8`: the language, if it is one of ours, and its weight in thousandths.
fn read_item(item: &str) -> Option<(Language, u16)> {
    let mut parts = item.split(';');
    let range = parts.next()?.trim();
    let primary = range.split('-').next()?;
    let language = if primary.eq_ignore_ascii_case("zh") {
        Language::Zh
    } else if primary.eq_ignore_ascii_case("en") {
        Language::En
    } else {
        return None;
    };
    let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
    let weight: f32 = weight.map_or(Some(1.0), |text| text.parse().ok())?;
    // Casting saturates, and makes 0 of a NaN.
    Some((language, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
}

/// A list longer than this is no browser's.
const ITEMS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_heaviest_language_of_ours_wins() {
        for (wanted, language) in [
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Zh),
            ("en-US,en;q=0.9,zh;q=0.8", Language::En),
            ("en;q=0.3, zh-Hant-TW;q=0.4", Language::Zh),
            ("fr, ZH;q=0.1", Language::Zh),
            ("zh;q=0", Language::En),
            ("zh;q=x", Language::En),
            ("fr, *", Language::En),
            ("", Language::En),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(wanted));
            assert_eq!(
                Language::preferred(&headers, Language::En),
                language,
                "{wanted}"
            );
        }
        assert_eq!(
            Language::preferred(&HeaderMap::new(), Language::Zh),
            Language::Zh
        );
    }
}
