//! Every kernel that this processor has against the chain of multiply-adds, bit for bit.

use std::sync::atomic::AtomicBool;

use super::{Level, Matrix, Packed, kernel, product, vector};
use crate::rng::{Purpose, Stream};

/// Of all threads: as it changes no bit of a result, other tests do not notice.
pub(crate) static DENSE_ONLY: AtomicBool = AtomicBool::new(false);

/// Numbers from -1 to 1.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::named(3, Purpose::Init, name);
    stream.uniforms(count).into_iter().map(|number| (number * 2.0 - 1.0) as f32).collect()
}

fn element(matrix: &Matrix<'_>, row: usize, column: usize) -> f32 {
    matrix.data[row * matrix.row_stride + column * matrix.column_stride]
}

/// `out += left * right`.
fn chains(out: &mut [f32], left: &Matrix<'_>, right: &Matrix<'_>, level: Level) {
    let is_fused = level != Level::Portable || vector::FUSES;
    for row in 0..left.rows {
        for column in 0..right.columns {
            let blocks = left.columns.div_ceil(kernel::INNER_MAX);
            for block in 0..blocks {
                let mut sum = 0.0;
                for inner in left.columns * block / blocks..left.columns * (block + 1) / blocks {
                    let (a, b) = (element(left, row, inner), element(right, inner, column));
                    sum = if is_fused { a.mul_add(b, sum) } else { a * b + sum };
                }
                out[row * right.columns + column] += sum;
            }
        }
    }
}

/// Rows, inner dimension, columns: of the models, around tiles, panels and blocks, and with nothing in them.
const SIZES: [[usize; 3]; 18] = [
    [32, 784, 128],
    [24, 32, 128],
    [32, 128, 10],
    [32, 10, 128],
    [32, 156, 512],
    [25, 300, 130],
    [676, 9, 32],
    [100, 288, 64],
    [1, 1, 1],
    [5, 3, 16],
    [6, 255, 17],
    [7, 256, 31],
    [11, 257, 32],
    [12, 513, 33],
    [13, 600, 63],
    [3, 0, 20],
    [0, 4, 4],
    [4, 4, 0],
];

/// A matrix of this size over `data`, as it is or as the other's transpose, with a gap between rows.
fn view(data: &[f32], rows: usize, columns: usize, gap: usize, is_transposed: bool) -> Matrix<'_> {
    if is_transposed {
        Matrix::strided(data, columns, rows, rows + gap).t()
    } else {
        Matrix::strided(data, rows, columns, columns + gap)
    }
}

fn is_equal(one: &[f32], other: &[f32]) -> bool {
    one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn every_kernel_computes_the_same_chains() {
    for [rows, inner, columns] in SIZES {
        let room = |rows: usize, columns: usize| (rows + 5) * (columns + 5);
        let (left, right) = (noise("left", room(rows, inner)), noise("right", room(inner, columns)));
        let before = noise("before", rows * columns);
        for case in 0..16 {
            let [left_t, right_t, is_wide, adds] = [1, 2, 4, 8].map(|bit| case & bit > 0);
            let gap = if is_wide { 5 } else { 0 };
            let (left, right) = (view(&left, rows, inner, gap, left_t), view(&right, inner, columns, gap, right_t));
            for level in Level::all() {
                let mut expected = if adds { before.clone() } else { vec![0.0; rows * columns] };
                let mut found = before.clone();
                chains(&mut expected, &left, &right, level);
                product(&mut found, left, right.whole(), adds, level);
                assert!(is_equal(&found, &expected), "{level:?}: {rows} x {inner} x {columns}, case {case}");
                if !adds {
                    found.copy_from_slice(&before);
                    Packed::at(level, right, |count| vec![f32::NAN; count]).multiply(&mut found, left);
                    assert!(is_equal(&found, &expected), "{level:?}: {rows} x {inner} x {columns} packed, case {case}");
                }
            }
        }
    }
}

/// With whole columns of zeros, runs of them, and zeros anywhere.
fn mostly_zero(data: &mut [f32], row_length: usize) {
    for (at, value) in data.iter_mut().enumerate() {
        let (row, column) = (at / row_length, at % row_length);
        if column % 5 > 1 || (row + column) % 3 == 0 || (column / 16 + row) % 4 == 0 {
            *value = 0.0;
        }
    }
}

#[test]
fn zeros_that_are_stepped_over_change_no_bit() {
    for [rows, inner, columns] in SIZES {
        let mut left = noise("left", (rows + 5) * (inner + 5));
        mostly_zero(&mut left, inner.max(1));
        let (right, before) = (noise("right", inner * columns), noise("before", rows * columns));
        for case in 0..8 {
            let [is_transposed, is_wide, adds] = [1, 2, 4].map(|bit| case & bit > 0);
            let left = view(&left, rows, inner, if is_wide { 5 } else { 0 }, is_transposed);
            let right = Matrix::new(&right, inner, columns);
            for level in Level::all() {
                let [mut expected, mut found] = [before.clone(), before.clone()];
                product(&mut expected, left, right.whole(), adds, level);
                product(&mut found, left.sparse(true), right.whole(), adds, level);
                assert!(is_equal(&found, &expected), "{level:?}: {rows} x {inner} x {columns}, case {case}");
            }
        }
    }
}

#[test]
fn mostly_zeros_are_told_from_others() {
    let sparse = |zeros: usize| {
        super::seems_sparse(&(0..40_000).map(|at| f32::from(at * 7919 % 100 >= zeros)).collect::<Vec<_>>())
    };
    assert_eq!([0, 50, 65, 85, 100].map(sparse), [false, false, false, true, true]);
    assert!(!super::seems_sparse(&[]) && !super::seems_sparse(&[1.0]) && super::seems_sparse(&[0.0]));
}

#[test]
fn numbers_that_are_none_stay_so() {
    for level in Level::all() {
        for value in [f32::NAN, f32::INFINITY] {
            let (left, right) = (vec![value; 6], vec![0.0; 12]);
            let mut out = vec![0.0; 8];
            product(&mut out, Matrix::new(&left, 2, 3), Matrix::new(&right, 3, 4).whole(), false, level);
            assert!(out.iter().all(|number| number.is_nan()), "{level:?}: {value} x 0 is {out:?}");
        }
    }
}

#[test]
#[should_panic(expected = "inner dimensions")]
fn sides_that_do_not_fit_are_refused() {
    let data = [0.0; 12];
    super::multiply(&mut [0.0; 16], Matrix::new(&data, 4, 3), Matrix::new(&data, 4, 3));
}

#[test]
#[should_panic(expected = "a 3 x 5 matrix reaches 15 of 12 elements")]
fn a_matrix_beyond_its_data_is_refused() {
    let _ = Matrix::new(&[0.0; 12], 3, 5);
}
