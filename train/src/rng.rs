//! Random numbers as a function of what they are for: no generator, no state, nothing to save.
//!
//! Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is the seed; the counter
//! is (block, row, step, purpose and layer), so distinct uses never share a number.

use crate::simd::multiversion;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// Blocks computed side by side.
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

    /// Uniform numbers in (0, 1) of 32 bits each: the words of blocks 0, 1, 2 ...
    pub fn uniforms(&self, count: usize) -> Vec<f64> {
        let mut numbers = vec![0.0; count];
        uniforms(self.key, self.tag, &mut numbers);
        numbers
    }

    /// Standard normal numbers, two from two uniform ones (Box & Muller 1958).
    pub fn normals(&self, count: usize) -> Vec<f64> {
        let mut numbers = self.uniforms(count.next_multiple_of(2));
        for pair in numbers.as_chunks_mut::<2>().0 {
            *pair = box_muller(*pair);
        }
        numbers.truncate(count);
        numbers
    }

    /// A permutation of `0..n`, its own for every `step` (Fisher & Yates).
    ///
    /// The place that is exchanged with `last` comes from 64 bits of block `last`: its bias is below `n / 2^64`.
    pub fn permutation(&self, step: u32, n: u32) -> Vec<u32> {
        let mut words = vec![0; n as usize];
        first_words(self.key, [0, step, self.tag], &mut words);
        let mut order: Vec<u32> = (0..n).collect();
        for (last, word) in words.into_iter().enumerate().skip(1).rev() {
            let other = (u128::from(word) * (last as u128 + 1)) >> 64;
            order.swap(last, other as usize);
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

fn box_muller([a, b]: [f64; 2]) -> [f64; 2] {
    let radius = libm::sqrt(-2.0 * libm::log(a));
    let angle = std::f64::consts::TAU * b;
    [radius * libm::cos(angle), radius * libm::sin(angle)]
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

#[inline(always)]
fn philox_lanes(key: [u32; 2], blocks: [u32; LANES], [row, step, tag]: [u32; 3]) -> [[u32; LANES]; 4] {
    philox([blocks, [row; LANES], [step; LANES], [tag; LANES]], key)
}

/// Philox 4x32-10 of one counter, for its known answers.
#[cfg(test)]
pub(crate) fn philox_of(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox(counter.map(|word| [word]), key).map(|[word]| word)
}

multiversion! {
    /// Numbers from the words of all blocks, from block 0 on.
    fn uniforms(key: [u32; 2], tag: u32, numbers: &mut [f64]) {
        let mut blocks: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
        for group in numbers.chunks_mut(4 * LANES) {
            let words = philox_lanes(key, blocks, [0, 0, tag]);
            let mut values = [[0.0; 4]; LANES];
            for (word, words) in words.iter().enumerate() {
                for (value, bits) in values.iter_mut().zip(words) {
                    value[word] = (f64::from(*bits) + 0.5) / 4_294_967_296.0;
                }
            }
            group.copy_from_slice(&values.as_flattened()[..group.len()]);
            blocks = blocks.map(|block| block.wrapping_add(LANES as u32));
        }
    }
}

multiversion! {
    /// The first 64 bits of each block, from block 0 on.
    fn first_words(key: [u32; 2], counter: [u32; 3], words: &mut [u64]) {
        let mut blocks: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
        for group in words.chunks_mut(LANES) {
            let [low, high, ..] = philox_lanes(key, blocks, counter);
            for ((word, low), high) in group.iter_mut().zip(low).zip(high) {
                *word = u64::from(high) << 32 | u64::from(low);
            }
            blocks = blocks.map(|block| block.wrapping_add(LANES as u32));
        }
    }
}

multiversion! {
    fn keep_mask(key: [u32; 2], counter: [u32; 3], dropped: u32, kept_value: f32, mask: &mut [f32]) {
        let mut blocks: [u32; LANES] = std::array::from_fn(|lane| lane as u32);
        for group in mask.chunks_mut(8 * LANES) {
            let words = philox_lanes(key, blocks, counter);
            let mut values = [0.0; 8 * LANES];
            for half in 0..8 {
                for lane in 0..LANES {
                    let bits = words[half / 2][lane] >> (16 * (half % 2)) & 0xFFFF;
                    values[half * LANES + lane] = if bits < dropped { 0.0 } else { kept_value };
                }
            }
            group.copy_from_slice(&values[..group.len()]);
            blocks = blocks.map(|block| block.wrapping_add(LANES as u32));
        }
    }
}
