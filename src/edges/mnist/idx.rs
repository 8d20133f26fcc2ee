//! IDX, the format of MNIST's files: a big-endian header, then the bytes. Plain or gzipped, told apart by content.
//!
//! Trusts nothing: reads at most one byte more than the header announces, so a small file cannot unpack to a large one.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

#[cfg(test)]
mod tests;

/// Whatever a header says, no file unpacks to more.
const BODY_BYTES_MAX: u64 = 1 << 30;
/// Memory asked for on the header's word alone; more only once that much has really been read.
const BODY_BYTES_AHEAD: u64 = 64 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const CLASSES: u8 = 10;

/// Pixels of `count` images, row by row: `[count, height, width]`.
#[derive(Debug, PartialEq)]
pub struct Images {
    pub count: u32,
    pub height: u32,
    pub width: u32,
    pub pixels: Vec<u8>,
}

/// Why bytes are not the IDX file they should be. Completes "cannot read FILE: "; offsets and sizes are of the unpacked
/// file, header included.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("expected a header of {expected} bytes, found {found}")]
    Header { expected: usize, found: usize },
    #[error("expected magic number {expected:#010x} at offset 0, found {found:#010x}: this is no IDX file of {unit}")]
    Magic { expected: u32, found: u32, unit: &'static str },
    #[error("expected at least 1 of {unit}, found 0 at offset 4")]
    Nothing { unit: &'static str },
    #[error("expected images of at least 1x1 pixels, found {height}x{width} at offset 8")]
    Shape { height: u32, width: u32 },
    #[error("expected at most {BODY_BYTES_MAX} bytes, found a header that says {count} {unit} of {bytes} bytes in all")]
    TooLarge { count: u32, unit: &'static str, bytes: u64 },
    #[error("expected {expected} bytes after the header says {count} {unit}, found {found}")]
    Truncated { expected: u64, count: u32, unit: &'static str, found: u64 },
    #[error("expected {expected} bytes after the header says {count} {unit}, found more")]
    Trailing { expected: u64, count: u32, unit: &'static str },
    #[error("expected a label from 0 to 9 at offset {offset}, found {found}")]
    Label { offset: usize, found: u8 },
    #[error("stopped at offset {offset}: {source}")]
    Unreadable { offset: u64, source: io::Error },
}

/// The bytes themselves, gunzipped if they are gzipped.
pub fn unpacked<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    if input.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(input)))
    } else {
        Ok(Box::new(input))
    }
}

/// Reads unpacked bytes to their end.
pub fn read_images(mut input: impl Read) -> Result<Images, Problem> {
    let [magic, count, height, width] = read_header(&mut input)?;
    check_kind(magic, 0x0000_0803, count, "images")?;
    if height == 0 || width == 0 {
        return Err(Problem::Shape { height, width });
    }
    let expected = u64::from(count).saturating_mul(u64::from(height)).saturating_mul(u64::from(width));
    let pixels = Body { header: 16, expected, count, unit: "images" }.read(input)?;
    Ok(Images { count, height, width, pixels })
}

/// Reads unpacked bytes to their end. Every label is a digit.
pub fn read_labels(mut input: impl Read) -> Result<Vec<u8>, Problem> {
    let [magic, count] = read_header(&mut input)?;
    check_kind(magic, 0x0000_0801, count, "labels")?;
    let labels = Body { header: 8, expected: u64::from(count), count, unit: "labels" }.read(input)?;
    match labels.iter().position(|label| *label >= CLASSES) {
        Some(index) => Err(Problem::Label { offset: 8 + index, found: labels[index] }),
        None => Ok(labels),
    }
}

fn read_header<const WORDS: usize>(input: &mut impl Read) -> Result<[u32; WORDS], Problem> {
    let expected = WORDS * 4;
    let mut header = Vec::with_capacity(expected);
    let outcome = input.take(expected as u64).read_to_end(&mut header);
    let found = header.len();
    match outcome {
        Err(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            Err(Problem::Unreadable { offset: found as u64, source })
        }
        _ if found < expected => Err(Problem::Header { expected, found }),
        _ => Ok(std::array::from_fn(|word| {
            let at = word * 4;
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        })),
    }
}

fn check_kind(magic: u32, expected: u32, count: u32, unit: &'static str) -> Result<(), Problem> {
    if magic != expected {
        return Err(Problem::Magic { expected, found: magic, unit });
    }
    if count == 0 {
        return Err(Problem::Nothing { unit });
    }
    Ok(())
}

/// What the header announced of the bytes that follow it.
struct Body {
    header: u64,
    expected: u64,
    count: u32,
    unit: &'static str,
}

impl Body {
    fn read(self, input: impl Read) -> Result<Vec<u8>, Problem> {
        let Self { header, expected, count, unit } = self;
        if expected > BODY_BYTES_MAX {
            return Err(Problem::TooLarge { count, unit, bytes: expected });
        }
        let mut body = Vec::with_capacity(expected.min(BODY_BYTES_AHEAD) as usize + 1);
        let outcome = input.take(expected + 1).read_to_end(&mut body);
        let found = body.len() as u64;
        match outcome {
            // A cut gzip stream reports an error where a cut plain file merely ends.
            Err(source) if source.kind() != io::ErrorKind::UnexpectedEof || found >= expected => {
                Err(Problem::Unreadable { offset: header + found, source })
            }
            _ if found < expected => {
                Err(Problem::Truncated { expected: header + expected, count, unit, found: header + found })
            }
            _ if found > expected => Err(Problem::Trailing { expected: header + expected, count, unit }),
            _ => Ok(body),
        }
    }
}
