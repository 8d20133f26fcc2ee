//! Keras' initial values, as a function of the seed and the parameter's name.

use crate::rng::{Purpose, Stream};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Initialiser {
    #[default]
    Zeros,
    /// Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).
    GlorotUniform { fan_in: usize, fan_out: usize },
    /// Rows orthonormal where there are fewer rows than columns, else columns (Saxe et al. 2014).
    Orthogonal,
    /// An LSTM's bias `[4 * units]` in the order input, forget, cell, output: the forget gate's is 1
    /// (Jozefowicz et al. 2015), the rest 0.
    ForgetGateOne,
}

impl Initialiser {
    /// The first values of the parameter `name` of this shape, row-major.
    pub(crate) fn values(self, seed: u64, name: &str, dims: &[usize]) -> Vec<f32> {
        let count: usize = dims.iter().product();
        let stream = Stream::named(seed, Purpose::Init, name);
        match self {
            Initialiser::Zeros => vec![0.0; count],
            Initialiser::GlorotUniform { fan_in, fan_out } => {
                let limit = libm::sqrt(6.0 / (fan_in + fan_out) as f64);
                fours(count, |index| stream.uniform4(index)).map(|u| ((2.0 * u - 1.0) * limit) as f32).collect()
            }
            Initialiser::Orthogonal => orthogonal(&stream, dims[0], count / dims[0].max(1)),
            Initialiser::ForgetGateOne => {
                let units = count / 4;
                (0..count).map(|at| if (units..2 * units).contains(&at) { 1.0 } else { 0.0 }).collect()
            }
        }
    }
}

/// `count` numbers drawn four at a time.
fn fours(count: usize, draw: impl Fn(u32) -> [f64; 4]) -> impl Iterator<Item = f64> {
    (0..count.div_ceil(4) as u32).flat_map(draw).take(count)
}

/// A random matrix with orthonormal rows (or columns, if it is taller than wide): normal numbers, Gram-Schmidt.
///
/// The distribution is Haar's, as with Keras' QR and its sign correction: Gram-Schmidt is the QR with positive diagonal.
fn orthogonal(stream: &Stream, rows: usize, columns: usize) -> Vec<f32> {
    let (short, long) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<f64> = fours(short * long, |index| stream.normal4(index)).collect();
    for at in 0..short {
        let (before, rest) = basis.split_at_mut(at * long);
        let vector = &mut rest[..long];
        // Twice is enough for orthogonality to working precision (Giraud et al. 2005).
        for _ in 0..2 {
            for other in before.chunks_exact(long) {
                let overlap = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, other)| *value -= overlap * other);
            }
        }
        let length = libm::sqrt(dot(vector, vector));
        vector.iter_mut().for_each(|value| *value /= length);
    }
    let element = |row: usize, column: usize| {
        if rows <= columns { basis[row * long + column] } else { basis[column * long + row] }
    };
    (0..rows * columns).map(|at| element(at / columns, at % columns) as f32).collect()
}

/// Inner product in eight running sums, so that it vectorises with its order fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
}
