//! Numbers that are computed together, for each instruction set.
#![allow(unsafe_code, reason = "the instructions themselves")]

/// A register of numbers. Every operation works on each lane by itself.
pub(super) trait Vector: Copy {
    const LANES: usize;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `LANES` numbers can be read from `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `LANES` numbers can be written to `to`.
    unsafe fn store(self, to: *mut f32);

    fn plus(self, other: Self) -> Self;

    /// Writes the transpose of [`SQUARE`] by [`SQUARE`] numbers, whose rows are `stride` and `to_stride` apart.
    ///
    /// # Safety
    /// All of them can be read from `from` and written to `to`.
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);

    /// `self + a * b`, rounded once where the processor can.
    fn plus_product(self, a: Self, b: Self) -> Self;

    /// A bit for each lane, from the lowest: whether it is anything but 0.
    fn marks(self) -> u32;
}

/// The side of what is transposed at a time.
pub(super) const SQUARE: usize = 8;

/// Whether [`Portable`] rounds once: only where that is an instruction, not a call.
pub(super) const FUSES: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// What any processor has.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Vector for Portable {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of numbers needs no more alignment than a number.
        Portable(unsafe { from.cast::<[f32; 8]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }

    #[inline(always)]
    fn plus(mut self, other: Self) -> Self {
        for (sum, other) in self.0.iter_mut().zip(other.0) {
            *sum += other;
        }
        self
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for (row, column) in (0..SQUARE).flat_map(|row| (0..SQUARE).map(move |column| (row, column))) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * stride + column) };
        }
    }

    #[inline(always)]
    fn plus_product(mut self, a: Self, b: Self) -> Self {
        for ((sum, a), b) in self.0.iter_mut().zip(a.0).zip(b.0) {
            *sum = plus_product(*sum, a, b);
        }
        self
    }

    #[inline(always)]
    fn marks(self) -> u32 {
        self.0.iter().rev().fold(0, |marks, number| marks << 1 | u32::from(*number != 0.0))
    }
}

/// One lane of [`Portable`].
#[inline(always)]
pub(super) fn plus_product(sum: f32, a: f32, b: f32) -> f32 {
    if FUSES { a.mul_add(b, sum) } else { a * b + sum }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256, __m512, _CMP_NEQ_UQ, _mm256_add_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_movemask_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{SQUARE, Vector};

    macro_rules! register {
        ($register:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $fused:ident, $marks:ident) => {
            impl Vector for $register {
                const LANES: usize = $lanes;

                #[inline(always)]
                fn splat(value: f32) -> Self {
                    // SAFETY: only kernels that enable the instructions, once they are detected, use this type.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above, and the caller's promise.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above, and the caller's promise.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
                    // SAFETY: as above, and the caller's promise.
                    unsafe { transpose(from, stride, to, to_stride) }
                }

                #[inline(always)]
                fn plus_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $fused(a, b, self) }
                }

                #[inline(always)]
                fn marks(self) -> u32 {
                    // SAFETY: as above.
                    unsafe { $marks(self) }
                }
            }
        };
    }

    register!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps, marks_of_8);
    register!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_fmadd_ps,
        marks_of_16
    );

    /// # Safety
    /// The processor has AVX.
    #[inline(always)]
    unsafe fn marks_of_8(numbers: __m256) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(numbers, _mm256_setzero_ps())) as u32 }
    }

    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    unsafe fn marks_of_16(numbers: __m512) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(numbers, _mm512_setzero_ps())) }
    }

    /// In registers of eight: neighbouring rows are interleaved, then pairs of them, then halves.
    ///
    /// # Safety
    /// As for [`Vector::transpose`], on a processor with AVX.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let [mut twos, mut fours] = [[_mm256_setzero_ps(); SQUARE]; 2];
            for at in (0..SQUARE).step_by(2) {
                let (one, other) =
                    (_mm256_loadu_ps(from.add(at * stride)), _mm256_loadu_ps(from.add((at + 1) * stride)));
                twos[at] = _mm256_unpacklo_ps(one, other);
                twos[at + 1] = _mm256_unpackhi_ps(one, other);
            }
            for at in [0, 4] {
                fours[at] = _mm256_shuffle_ps::<0b0100_0100>(twos[at], twos[at + 2]);
                fours[at + 1] = _mm256_shuffle_ps::<0b1110_1110>(twos[at], twos[at + 2]);
                fours[at + 2] = _mm256_shuffle_ps::<0b0100_0100>(twos[at + 1], twos[at + 3]);
                fours[at + 3] = _mm256_shuffle_ps::<0b1110_1110>(twos[at + 1], twos[at + 3]);
            }
            for at in 0..4 {
                let (one, other) = (fours[at], fours[at + 4]);
                _mm256_storeu_ps(to.add(at * to_stride), _mm256_permute2f128_ps::<0x20>(one, other));
                _mm256_storeu_ps(to.add((at + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(one, other));
            }
        }
    }
}
