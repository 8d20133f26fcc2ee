//! Matrix products, single-threaded: bounds-checked views over the [`kernel`].
//!
//! A number of a product is a sum in a fixed order, of multiply-adds that are rounded once where the processor can. So its
//! bits depend neither on the other sizes nor on the instruction set, as long as that fuses.

mod kernel;
mod sparse;
#[cfg(test)]
pub(crate) mod tests;
mod vector;

use std::ops::DerefMut;

use kernel::{Product, Right, Side};

/// A matrix in a slice: element (row, column) is at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    is_sparse: bool,
}

impl<'a> Matrix<'a> {
    /// Row-major without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix::strided(data, rows, columns, columns)
    }

    /// Row-major, rows `row_stride` apart.
    ///
    /// # Panics
    /// Where an element would lie outside `data`.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let reach = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(reach <= data.len(), "a {rows} x {columns} matrix reaches {reach} of {} elements", data.len());
        Matrix { data, rows, columns, row_stride, column_stride: 1, is_sparse: false }
    }

    /// The same elements, rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// As the left side of a product, where steps of a chain with a 0 may be left out. That changes no bit, unless the right
    /// side has numbers that are infinite or none: 0 times those is noticed no more.
    pub(crate) fn sparse(self, is_sparse: bool) -> Self {
        Matrix { is_sparse, ..self }
    }

    /// As the right side of a product.
    fn whole(&self) -> (usize, usize, Right) {
        (self.rows, self.columns, Right::Plain(self.side()))
    }

    fn side(&self) -> Side {
        Side { data: self.data.as_ptr(), row_stride: self.row_stride, column_stride: self.column_stride }
    }
}

/// A right side that is multiplied with several times, as the kernel reads it fastest.
pub(crate) struct Packed<M> {
    memory: M,
    inner: usize,
    columns: usize,
    level: Level,
}

impl<M: DerefMut<Target = [f32]>> Packed<M> {
    /// Packs `right` into memory of this many numbers or more.
    pub(crate) fn of(right: Matrix<'_>, memory: impl FnOnce(usize) -> M) -> Self {
        Packed::at(Level::detected(), right, memory)
    }

    #[allow(unsafe_code)]
    fn at(level: Level, right: Matrix<'_>, memory: impl FnOnce(usize) -> M) -> Self {
        let Matrix { rows: inner, columns, .. } = right;
        let mut memory = memory(packed_len(inner, columns, level));
        assert!(memory.len() >= packed_len(inner, columns, level), "the packed side does not fit its place");
        // SAFETY: `Matrix::strided` proved that every element lies in its slice, the assertion that there is room; and
        // the level was detected.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => kernel::avx512::pack(right.side(), inner, columns, memory.as_mut_ptr()),
                #[cfg(target_arch = "x86_64")]
                Level::Fma => kernel::fma::pack(right.side(), inner, columns, memory.as_mut_ptr()),
                Level::Portable => kernel::portable::pack(right.side(), inner, columns, memory.as_mut_ptr()),
            }
        }
        Packed { memory, inner, columns, level }
    }

    /// `out = left * self`, row-major without gaps.
    pub(crate) fn multiply(&self, out: &mut [f32], left: Matrix<'_>) {
        let &Packed { ref memory, inner, columns, level } = self;
        product(out, left, (inner, columns, Right::Packed(memory.as_ptr())), false, level);
    }
}

fn packed_len(inner: usize, columns: usize, level: Level) -> usize {
    kernel::packed_len(inner, columns, level.lanes())
}

/// `out = left * right`, row-major without gaps.
pub(crate) fn multiply(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>) {
    product(out, left, right.whole(), false, Level::detected());
}

/// `out += left * right`, row-major without gaps.
pub(crate) fn multiply_add(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>) {
    product(out, left, right.whole(), true, Level::detected());
}

/// Whether looking for zeros among these numbers is worth its while.
pub(crate) fn is_sparse(values: &[f32]) -> bool {
    #[cfg(test)]
    if tests::DENSE_ONLY.load(std::sync::atomic::Ordering::Relaxed) {
        return false;
    }
    seems_sparse(values)
}

/// Whether so many are 0, as it seems from some of them.
pub(crate) fn seems_sparse(values: &[f32]) -> bool {
    /// Prime, so that all parts of an image are seen.
    const STRIDE: usize = 61;
    const LOOKS_MAX: usize = 512;
    let looks = || values.iter().step_by(STRIDE).take(LOOKS_MAX);
    let zeros = looks().filter(|value| value.to_bits() == 0).count();
    zeros > 0 && zeros >= looks().count() / 4 * 3
}

/// `right` with its rows and columns.
#[allow(unsafe_code)]
fn product(
    out: &mut [f32],
    left: Matrix<'_>,
    (inner, columns, right): (usize, usize, Right),
    adds: bool,
    level: Level,
) {
    assert_eq!(left.columns, inner, "inner dimensions");
    assert!(out.len() >= left.rows * columns, "the product does not fit its place");
    let product = Product { rows: left.rows, inner, columns, left: left.side(), right, out: out.as_mut_ptr(), adds };
    let is_striped = columns.is_multiple_of(level.lanes());
    let sparse = match right {
        Right::Plain(side) if left.is_sparse && is_striped && side.column_stride == 1 => Some(side),
        _ => None,
    };
    // SAFETY: `Matrix::strided` proved that every element of a side lies in its slice, `Packed::at` that a packed one is
    // whole, the assertion above that `out` is; it is borrowed mutably, so nothing aliases it; and the level was detected. A
    // sparse product's right side has rows without gaps, and whole registers of columns.
    unsafe {
        match (level, sparse) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, None) => kernel::avx512::multiply(&product),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Some(right)) => sparse::avx512::multiply(&product, right),
            #[cfg(target_arch = "x86_64")]
            (Level::Fma, None) => kernel::fma::multiply(&product),
            #[cfg(target_arch = "x86_64")]
            (Level::Fma, Some(right)) => sparse::fma::multiply(&product, right),
            (Level::Portable, None) => kernel::portable::multiply(&product),
            (Level::Portable, Some(right)) => sparse::portable::multiply(&product, right),
        }
    }
}

/// The widest instructions that the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Fma,
    Portable,
}

impl Level {
    /// The best that this processor has, the others that it has after it.
    fn all() -> impl Iterator<Item = Level> {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            let fma = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            let avx512 = fma && std::arch::is_x86_feature_detected!("avx512f");
            [avx512.then_some(Level::Avx512), fma.then_some(Level::Fma)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None, None];
        wide.into_iter().flatten().chain([Level::Portable])
    }

    /// Numbers in a register.
    fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => kernel::avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Fma => kernel::fma::LANES,
            Level::Portable => kernel::portable::LANES,
        }
    }

    fn detected() -> Level {
        Level::all().next().unwrap_or(Level::Portable)
    }
}

/// The instructions that compute matrix products on this processor. Results are the same bits on all that fuse: every
/// set but `x86-64` and `portable`.
pub fn kernel_set() -> &'static str {
    match Level::detected() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "x86-64-avx512",
        #[cfg(target_arch = "x86_64")]
        Level::Fma => "x86-64-fma",
        Level::Portable if cfg!(target_arch = "x86_64") => "x86-64",
        Level::Portable if cfg!(target_arch = "aarch64") => "aarch64-neon",
        Level::Portable => "portable",
    }
}
