//! Products whose left side is mostly 0, as images of strokes are: only the other steps of a chain are made.
//!
//! The chains are those of the [`kernel`](super::kernel), so the bits are the same: `sum + 0 * number` is `sum`, unless the
//! number is infinite or none.
//!
//! ```text
//! for a block of the inner dimension
//!   for some rows                         their numbers that are not 0 are looked up once
//!     for a stripe of columns             what the rows touch of it stays in the first-level cache
//!       for a row                         its sums stay in registers over the whole block
//! ```
#![allow(unsafe_code, reason = "kernels over raw memory, called from `product` alone, which checks every size")]

use super::kernel::{INNER_MAX, Product, Side, block_of};
use super::vector::Vector;

/// Rows that are looked through at a time.
const ROWS: usize = 32;
/// Numbers whose places are looked up at a time.
const WORD: usize = 64;
const WORDS: usize = INNER_MAX / WORD;
/// A part of the right side that the first-level cache keeps beside all else: rows go through all its columns one by one, so
/// that the processor knows from the first stripe how long the others' chains are.
const NEAR: usize = 4096;

/// The kernel for one set of instructions.
macro_rules! compiled {
    ($name:ident, $vector:ty $(, $features:literal)?) => {
        pub(super) mod $name {
            use super::{Product, Side};

            /// # Safety
            /// As for the kernel's `multiply`. The columns are whole registers, and `right`'s rows without gaps.
            $(#[target_feature(enable = $features)])?
            pub unsafe fn multiply(product: &Product, right: Side) {
                // SAFETY: the caller's promise.
                unsafe { super::multiply::<$vector>(product, right) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx512, std::arch::x86_64::__m512, "avx512f");
#[cfg(target_arch = "x86_64")]
compiled!(fma, std::arch::x86_64::__m256, "avx2,fma");
compiled!(portable, super::super::vector::Portable);

/// # Safety
/// As for [`fma`], with the instructions of `V`.
#[inline(always)]
unsafe fn multiply<V: Vector>(product: &Product, right: Side) {
    let &Product { rows, inner, columns, left, out, adds, .. } = product;
    let mut found = [Places { at: [0; INNER_MAX], count: 0 }; ROWS];
    let blocks = inner.div_ceil(INNER_MAX).max(1);
    for block in 0..blocks {
        let [from, to] = block_of(inner, block, blocks);
        for first in (0..rows).step_by(ROWS) {
            let rows = ROWS.min(rows - first);
            let left = left.from(first, from);
            // SAFETY: these rows and this block are within the left side.
            unsafe { look_up::<V>(left, rows, to - from, &mut found) };
            let together = if (to - from) * columns <= NEAR { 1 } else { rows };
            for row in (0..rows).step_by(together) {
                let mut column = 0;
                while column < columns {
                    let stripe = Stripe {
                        left: left.from(row, 0),
                        right: right.from(from, column),
                        sums: out.wrapping_add((first + row) * columns + column),
                        stride: columns,
                        adds: adds || block > 0,
                    };
                    let places = &found[row..row + together];
                    // SAFETY: so many registers of columns are left, and the rows are within the product.
                    column += V::LANES
                        * unsafe {
                            match (columns - column) / V::LANES {
                                8.. => stripe.multiply::<V, 8>(places),
                                4.. => stripe.multiply::<V, 4>(places),
                                2.. => stripe.multiply::<V, 2>(places),
                                _ => stripe.multiply::<V, 1>(places),
                            }
                        };
                }
            }
        }
    }
}

/// Where in a block of a row there is anything but 0, ascending.
#[derive(Clone, Copy)]
struct Places {
    at: [u8; INNER_MAX],
    count: usize,
}

/// # Safety
/// Every element of `rows` by `inner` can be read, at most [`ROWS`] by [`INNER_MAX`].
#[inline(always)]
unsafe fn look_up<V: Vector>(left: Side, rows: usize, inner: usize, found: &mut [Places; ROWS]) {
    // Bit `at % WORD` of word `at / WORD` says whether number `at` of a row is anything.
    let mut marks = [[0_u64; ROWS]; WORDS];
    for (word, marks) in marks.iter_mut().enumerate().take(inner.div_ceil(WORD)) {
        let from = word * WORD;
        let count = WORD.min(inner - from);
        // SAFETY: the caller's promise; one of the strides is 1, so numbers lie next to each other in one of the two ways.
        unsafe {
            if left.column_stride == 1 {
                marks
                    .iter_mut()
                    .take(rows)
                    .enumerate()
                    .for_each(|(row, mark)| *mark = marked::<V>(left.at(row, from), count));
            } else {
                for at in 0..count {
                    let numbers = std::slice::from_raw_parts(left.at(0, from + at), rows);
                    marks.iter_mut().zip(numbers).for_each(|(mark, number)| *mark |= u64::from(*number != 0.0) << at);
                }
            }
        }
    }
    for (row, places) in found.iter_mut().enumerate().take(rows) {
        let mut count = 0;
        for (word, marks) in marks.iter().enumerate().take(inner.div_ceil(WORD)) {
            let mut left = marks[row];
            while left != 0 {
                places.at[count] = (word * WORD) as u8 + left.trailing_zeros() as u8;
                count += 1;
                left &= left - 1;
            }
        }
        places.count = count;
    }
}

/// # Safety
/// `count` numbers can be read.
#[inline(always)]
unsafe fn marked<V: Vector>(numbers: *const f32, count: usize) -> u64 {
    let whole = count / V::LANES * V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let registers = (0..whole).step_by(V::LANES).map(|at| u64::from(V::load(numbers.add(at)).marks()) << at);
        let rest = (whole..count).map(|at| u64::from(*numbers.add(at) != 0.0) << at);
        registers.chain(rest).fold(0, |marks, mark| marks | mark)
    }
}

/// Some registers of columns of some rows, over one block.
struct Stripe {
    left: Side,
    right: Side,
    sums: *mut f32,
    /// Of the sums.
    stride: usize,
    adds: bool,
}

impl Stripe {
    /// Returns how many registers wide it is.
    ///
    /// # Safety
    /// `found` was looked up in these rows of `left`; `WIDTH` registers can be read of each row of `right` that it names, and
    /// be read and written of each row of sums.
    #[inline(always)]
    unsafe fn multiply<V: Vector, const WIDTH: usize>(&self, found: &[Places]) -> usize {
        for (row, places) in found.iter().enumerate() {
            let mut sums = [V::splat(0.0); WIDTH];
            let left = self.left.from(row, 0);
            // SAFETY: the caller's promise.
            unsafe {
                for place in &places.at[..places.count] {
                    let place = usize::from(*place);
                    let (value, from) = (V::splat(*left.at(0, place)), self.right.at(place, 0));
                    for (at, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.plus_product(value, V::load(from.add(at * V::LANES)));
                    }
                }
                let to = self.sums.add(row * self.stride);
                for (at, sum) in sums.iter().enumerate() {
                    let to = to.add(at * V::LANES);
                    let whole = if self.adds { V::load(to).plus(*sum) } else { *sum };
                    whole.store(to);
                }
            }
        }
        WIDTH
    }
}
