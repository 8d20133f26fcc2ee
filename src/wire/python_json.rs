//! JSON as the older system writes it into its stream: Python's `json.dumps`, with a space after `,` and `:` and all
//! text in ASCII. Its clients compare and split such lines.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

pub fn to_string(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    // Writing to memory does not fail, and the lines are structs of strings and numbers.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, Python));
    String::from_utf8(bytes).unwrap_or_default()
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::to_string;

    #[test]
    fn it_reads_like_json_dumps() {
        let value = json!({"a": [1, "x"], "b": {"c": null, "d": "ü \"𝄞\"\n"}});
        assert_eq!(to_string(&value), r#"{"a": [1, "x"], "b": {"c": null, "d": "\u00fc \"\ud834\udd1e\"\n"}}"#);
    }
}
