//! Keras' initial values, as a function of the seed and the parameter's name.

use crate::rng::{Purpose, Stream};
use crate::simd::multiversion;

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
                stream.uniforms(count).into_iter().map(|u| ((2.0 * u - 1.0) * limit) as f32).collect()
            }
            Initialiser::Orthogonal => orthogonal(&stream, dims[0], count / dims[0].max(1)),
            Initialiser::ForgetGateOne => {
                let units = count / 4;
                (0..count).map(|at| if (units..2 * units).contains(&at) { 1.0 } else { 0.0 }).collect()
            }
        }
    }
}

/// A random matrix with orthonormal rows (or columns, if it is taller than wide): normal numbers, Gram-Schmidt.
///
/// The distribution is Haar's, as with Keras' QR and its sign correction: Gram-Schmidt is the QR with positive diagonal.
fn orthogonal(stream: &Stream, rows: usize, columns: usize) -> Vec<f32> {
    let (short, long) = (rows.min(columns), rows.max(columns));
    let mut basis = stream.normals(short * long);
    orthonormalise(&mut basis, long);
    let element = |row: usize, column: usize| {
        if rows <= columns { basis[row * long + column] } else { basis[column * long + row] }
    };
    (0..rows * columns).map(|at| element(at / columns, at % columns) as f32).collect()
}

multiversion! {
    /// Makes vectors of `length` numbers orthonormal, from the first to the last.
    ///
    /// Each loses its parts along all before it twice, which is enough for orthogonality to working precision (Giraud et
    /// al. 2005). While a vector does so for the second time, the next does for the first: so those before are read once.
    fn orthonormalise(vectors: &mut [f64], length: usize) {
        for at in 0..vectors.len() / length.max(1) {
            let (before, rest) = vectors.split_at_mut(at * length);
            let (vector, rest) = rest.split_at_mut(length);
            let next = if rest.is_empty() { rest } else { &mut rest[..length] };
            for other in before.chunks_exact(length) {
                subtract_part(vector, other);
                subtract_part(next, other);
            }
            let norm = dot(vector, vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= norm);
            subtract_part(next, vector);
        }
    }
}

/// Takes from `vector` its part along `unit`.
#[inline(always)]
fn subtract_part(vector: &mut [f64], unit: &[f64]) {
    let overlap = dot(vector, unit);
    vector.iter_mut().zip(unit).for_each(|(value, unit)| *value -= overlap * unit);
}

/// Inner product in eight running sums, so that it vectorises with its order fixed.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_left), (b, b_left)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        add_products(&mut sums, a, b);
    }
    add_products(&mut sums, a_left, b_left);
    ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
}

#[inline(always)]
fn add_products(sums: &mut [f64; 8], a: &[f64], b: &[f64]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}
