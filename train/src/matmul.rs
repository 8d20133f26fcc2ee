//! Matrix products: bounds-checked views over the `gemm` crate, single-threaded, with the order of sums fixed.

use gemm::Parallelism;

/// gemm picks its own blocks of the inner dimension from the processor's cache sizes beyond this; blocks of at most
/// this, summed in order, are the same everywhere.
const INNER_MAX: usize = 512;

/// A matrix in a slice: element (row, column) is at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix::strided(data, rows, columns, columns, 1)
    }

    /// # Panics
    /// Where an element would lie outside `data`.
    pub(crate) fn strided(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Self {
        let reach = span(rows, columns, row_stride, column_stride);
        assert!(reach <= data.len(), "a {rows} x {columns} matrix reaches {reach} of {} elements", data.len());
        Matrix { data, rows, columns, row_stride, column_stride }
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
}

/// Elements from the first to the last of a strided matrix.
fn span(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
}

/// `out = left * right`, row-major without gaps.
pub(crate) fn multiply(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>) {
    product(out, left, right, false);
}

/// `out += left * right`, row-major without gaps.
pub(crate) fn multiply_add(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>) {
    product(out, left, right, true);
}

fn product(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    assert_eq!(left.columns, right.rows, "inner dimensions");
    assert!(out.len() >= left.rows * right.columns, "the product does not fit its place");
    let inner = left.columns;
    let blocks = inner.div_ceil(INNER_MAX).max(1);
    let mut from = 0;
    for block in 0..blocks {
        // Blocks of nearly equal length: a short last block would waste the kernel's set-up.
        let to = inner * (block + 1) / blocks;
        call(out, left, right, from, to, accumulate || block > 0);
        from = to;
    }
}

/// One call of the library over the inner dimension `from..to`.
#[allow(unsafe_code)]
fn call(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>, from: usize, to: usize, accumulate: bool) {
    let (m, n) = (left.rows, right.columns);
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: `Matrix::strided` proved that every element of both views lies in its slice, `product` that `m * n`
    // elements of `out` exist and that `from..to` is within the shared inner dimension; `out` is borrowed mutably,
    // so nothing aliases it. Strides are below 2^31 as the slices exist in memory.
    unsafe {
        gemm::gemm(
            m,
            n,
            to - from,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            left.data.as_ptr().wrapping_add(from * left.column_stride),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr().wrapping_add(from * right.row_stride),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The kernels that compute matrix products on this processor. Results are the same bits only within one set.
pub fn kernel_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        // The same questions, in the same order, as gemm asks.
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "x86-64-avx512";
        }
        if std::arch::is_x86_feature_detected!("fma") {
            return "x86-64-fma";
        }
        "x86-64"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "aarch64-neon"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "portable"
    }
}
