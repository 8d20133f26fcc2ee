//! Random numbers as a function of what they are for: no generator, no state, nothing to save.
//!
//! Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is the seed; the counter
//! is (block, row, step, purpose and layer), so distinct uses never share a number.

use crate::simd::multiversion;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// Blocks computed side by side by [`Stream::keep_mask`].
const LANES: usize = 16;

/// What numbers are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A parameter's first value; the layer is the parameter's name.
    Init = 1,
    /// The order of an epoch's samples; the step is the epoch.
    Shuffle = 2,
    /// A dropout mask; the step is the global step, the row the sample's place in the whole batch.
    Dropout = 3,
    /// The samples held out for validation.
    HoldOut = 4,
}

/// All the numbers of one (seed, purpose, layer).
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: [u32; 2],
    tag: u32,
}

impl Stream {
    /// `layer` is used modulo 2^24.
    pub fn new(seed: u64, purpose: Purpose, layer: u32) -> Self {
        Stream { key: [seed as u32, (seed >> 32) as u32], tag: (purpose as u32) << 24 | (layer & 0x00FF_FFFF) }
    }

    /// The stream of a layer known by name (FNV-1a, folded to 24 bits).
    pub fn named(seed: u64, purpose: Purpose, name: &str) -> Self {
        let hash = name.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Stream::new(seed, purpose, hash ^ (hash >> 24))
    }

    /// Four independent uniform words.
    pub fn block(&self, step: u32, row: u32, block: u32) -> [u32; 4] {
        philox([[block], [row], [step], [self.tag]], self.key).map(|[word]| word)
    }

    /// A uniform number below `bound`, from 64 bits: the bias is below `bound / 2^64`.
    pub fn below(&self, step: u32, index: u32, bound: u64) -> u64 {
        let [low, high, ..] = self.block(step, 0, index);
        let word = u64::from(high) << 32 | u64::from(low);
        ((u128::from(word) * u128::from(bound)) >> 64) as u64
    }

    /// Two uniform numbers in (0, 1) of 32 bits each, and two more: the i-th four of a parameter.
    pub fn uniform4(&self, index: u32) -> [f64; 4] {
        self.block(0, 0, index).map(|word| (f64::from(word) + 0.5) / 4_294_967_296.0)
    }

    /// Four standard normal numbers (Box & Muller 1958).
    pub fn normal4(&self, index: u32) -> [f64; 4] {
        let [a, b, c, d] = self.uniform4(index);
        let (p, q) = (box_muller(a, b), box_muller(c, d));
        [p.0, p.1, q.0, q.1]
    }

    /// A permutation of `0..n`, its own for every `step` (Fisher & Yates).
    pub fn permutation(&self, step: u32, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            let other = self.below(step, last, u64::from(last) + 1) as usize;
            order.swap(last as usize, other);
        }
        order
    }

    /// One row of a dropout mask: 0 with probability `dropped / 65536`, else `kept_value`.
    ///
    /// Unit `u` takes 16 bits: of group `u / 128`, half-word `u % 128 / 16`, block `u % 16`.
    pub fn keep_mask(&self, step: u32, row: u32, dropped: u32, kept_value: f32, mask: &mut [f32]) {
        keep_mask(self.key, [row, step, self.tag], dropped, kept_value, mask);
    }
}

fn box_muller(a: f64, b: f64) -> (f64, f64) {
    let radius = libm::sqrt(-2.0 * libm::log(a));
    let angle = std::f64::consts::TAU * b;
    (radius * libm::cos(angle), radius * libm::sin(angle))
}

/// Philox 4x32-10 on `L` counters side by side, word-major so that it vectorises.
#[inline(always)]
fn philox<const L: usize>(counter: [[u32; L]; 4], key: [u32; 2]) -> [[u32; L]; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let mut key = key;
    for _ in 0..ROUNDS {
        for lane in 0..L {
            let first = u64::from(MULTIPLIERS[0]) * u64::from(a[lane]);
            let second = u64::from(MULTIPLIERS[1]) * u64::from(c[lane]);
            a[lane] = (second >> 32) as u32 ^ b[lane] ^ key[0];
            b[lane] = second as u32;
            c[lane] = (first >> 32) as u32 ^ d[lane] ^ key[1];
            d[lane] = first as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    [a, b, c, d]
}

/// Philox 4x32-10 of one counter, for its known answers.
#[cfg(test)]
pub(crate) fn philox_of(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox(counter.map(|word| [word]), key).map(|[word]| word)
}

multiversion! {
    fn keep_mask(key: [u32; 2], counter: [u32; 3], dropped: u32, kept_value: f32, mask: &mut [f32]) {
        let mut first_block = 0_u32;
        for group in mask.chunks_mut(8 * LANES) {
            let mut blocks = [0; LANES];
            for (lane, block) in blocks.iter_mut().enumerate() {
                *block = first_block + lane as u32;
            }
            let words = philox([blocks, [counter[0]; LANES], [counter[1]; LANES], [counter[2]; LANES]], key);
            let mut values = [0.0; 8 * LANES];
            for half in 0..8 {
                for lane in 0..LANES {
                    let bits = words[half / 2][lane] >> (16 * (half % 2)) & 0xFFFF;
                    values[half * LANES + lane] = if bits < dropped { 0.0 } else { kept_value };
                }
            }
            group.copy_from_slice(&values[..group.len()]);
            first_block += LANES as u32;
        }
    }
}
