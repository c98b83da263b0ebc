//! From the text of a file to rows with their lines: CSV with a head line, a JSON list, JSON lines.

use anyhow::{Context, bail};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A row as it stands in the file.
#[derive(Debug)]
pub(super) struct Row {
    /// From 1 on.
    pub(super) line: u64,
    /// Columns by their names in lower case; or why it is no row.
    pub(super) columns: Result<Map<String, Value>, String>,
}

/// All rows of a file.
///
/// # Errors
/// When it is neither CSV nor JSON, or has no rows.
pub(super) fn rows(text: &str) -> anyhow::Result<Vec<Row>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = match text.trim_start().chars().next() {
        None => bail!("it is empty"),
        Some('[') => list(text)?,
        Some('{') => lines(text),
        Some(_) => table(text)?,
    };
    if rows.is_empty() {
        bail!("it has no rows");
    }
    Ok(rows)
}

fn list(text: &str) -> anyhow::Result<Vec<Row>> {
    let values: Vec<&RawValue> = serde_json::from_str(text).context("it is no JSON list")?;
    let (start, mut lines) = (text.as_ptr().addr(), Lines::of(text));
    let rows = values.iter().map(|value| Row {
        // A raw value is a part of the text: where it begins is its place.
        line: lines.at(value.get().as_ptr().addr() - start),
        columns: object(value.get()),
    });
    Ok(rows.collect())
}

fn lines(text: &str) -> Vec<Row> {
    let lines = text.lines().zip(1..);
    let filled = lines.filter(|(text, _)| !text.trim().is_empty());
    filled
        .map(|(text, line)| Row {
            line,
            columns: object(text),
        })
        .collect()
}

fn table(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let head = reader.headers().context("it has no head line")?.clone();
    let (mut rows, mut lines) = (Vec::new(), Lines::of(text));
    for record in reader.records() {
        let record = record.context("it is no CSV")?;
        let begin = record.position().map_or(0, csv::Position::byte);
        // The end of the line before, where that has two characters, and empty lines.
        let begin = usize::try_from(begin)?;
        let rest = text.get(begin..).unwrap_or_default();
        let ends = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let line = lines.at(begin + ends);
        let columns = match record.len() == head.len() {
            true => Ok(head.iter().zip(&record).map(named).collect()),
            false => Err(format!(
                "has {} columns, and the head line has {}",
                record.len(),
                head.len()
            )),
        };
        rows.push(Row { line, columns });
    }
    Ok(rows)
}

fn named((name, text): (&str, &str)) -> (String, Value) {
    let value = if text.is_empty() {
        Value::Null
    } else {
        text.into()
    };
    (name.to_lowercase(), value)
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| "is no JSON object".to_owned())?;
    Ok(object
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect())
}

/// Counts lines on the way through a text.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: u64,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// The line of an offset, which is none before the last one.
    fn at(&mut self, offset: usize) -> u64 {
        let passed = self.text.get(self.at..offset).unwrap_or_default();
        let ends = passed.bytes().map(|byte| u64::from(byte == b'\n'));
        self.line += ends.sum::<u64>();
        self.at = offset;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u64, Option<String>)> {
        let rows = rows(text).unwrap().into_iter();
        let name = |row: Row| Some(row.columns.ok()?.get("username")?.as_str()?.to_owned());
        rows.map(|row| (row.line, name(row))).collect()
    }

    #[test]
    fn each_form_is_read_with_its_lines() {
        let expected = [(2, Some("ada".to_owned())), (3, Some("bob".to_owned()))];
        for text in [
            "Username,email\nada,a@b.c\nbob,\n",
            "\u{feff}username , email\r\n ada ,\"a@b.c\"\r\nbob,x\r\n",
            "[\n{\"username\":\"ada\"},\n{\"Username\":\"bob\"}]",
            "\n{\"username\":\"ada\"}\n{\"username\":\"bob\"}\n",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_row_over_several_lines_begins_at_its_first() {
        let text = "username,note\nada,\"one\ntwo\"\nbob,three\n";
        assert_eq!(
            read(text).iter().map(|row| row.0).collect::<Vec<_>>(),
            [2, 4]
        );
    }

    #[test]
    fn what_is_no_row_is_told_and_the_others_are_read() {
        let rows = rows("username,email\nada\nbob,b@c.d\n").unwrap();
        assert!(rows[0].columns.is_err() && rows[1].columns.is_ok());
        let rows = self::rows("{\"username\":\"ada\"}\nnot json\n").unwrap();
        assert!(rows[0].columns.is_ok() && rows[1].columns.is_err());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for text in ["", "  \n", "[1, 2", "username,email\n", "[]"] {
            assert!(rows(text).is_err(), "{text}");
        }
    }
}
