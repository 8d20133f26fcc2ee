//! SHA-256 of whatever passes through a reader.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

pub struct Hashed<R> {
    input: R,
    sha256: Sha256,
}

impl<R: Read> Hashed<R> {
    pub fn new(input: R) -> Self {
        Self { input, sha256: Sha256::new() }
    }

    /// Of the bytes read so far, hexadecimal.
    pub fn finish(self) -> String {
        self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}
