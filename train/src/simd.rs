//! Loops compiled for each instruction set, and the elementary functions they use.
//!
//! Plain Rust arithmetic is never fused or reordered by the compiler, so every version of a loop gives the same bits;
//! only its speed differs. (Products are fused on purpose, see [`crate::kernel_set`].)

/// Defines a function whose body is compiled for AVX-512, AVX2 and the target's baseline, and picked at run time.
///
/// The body must be plain safe code; what it calls should be `#[inline(always)]`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take their sizes one by one")]
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn baseline($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, clippy::too_many_arguments)]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
                fn avx512($($arg: $ty),*) {
                    baseline($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) {
                    baseline($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: `level` has detected every feature that the function enables.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            baseline($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// Has the processor fetch into its caches what will be read soon.
#[allow(unsafe_code, reason = "the instruction itself")]
pub(crate) fn prefetch(bytes: &[u8]) {
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it reads nothing; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE);
}

/// The widest instruction set that loops are compiled for and this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Baseline,
    Avx2,
    Avx512,
}

/// Detected once by the standard library and cached there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = *tests::AT_MOST.read().expect("nobody panics") {
        return detected().min(level);
    }
    detected()
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Level {
    let wide = std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl");
    match (wide, std::arch::is_x86_feature_detected!("avx2")) {
        (true, true) => Level::Avx512,
        (false, true) => Level::Avx2,
        (_, false) => Level::Baseline,
    }
}

/// e^x for x <= 88; 0 below -87. Relative error under 2e-7 (Cephes' expf).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a library call.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 0.5;
    let mantissa = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { mantissa * scale }
}

/// Hyperbolic tangent, absolute error under 5e-7: the rational approximation of Eigen and XLA.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let x = x.clamp(-7.905_311, 7.905_311);
    let s = x * x;
    let mut p = -2.760_768_5e-16;
    p = p * s + 2.000_188e-13;
    p = p * s + -8.604_672e-11;
    p = p * s + 5.122_297e-8;
    p = p * s + 1.485_722_4e-5;
    p = p * s + 6.372_619e-4;
    p = p * s + 4.893_525e-3;
    let mut q = 1.198_258_4e-6;
    q = q * s + 1.185_347e-4;
    q = q * s + 2.268_434_6e-3;
    q = q * s + 4.893_525e-3;
    x * p / q
}

/// 1 / (1 + e^-x) by way of [`tanh`].
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    0.5 * tanh(0.5 * x) + 0.5
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::RwLock;

    use super::Level;

    /// Of all threads: as every version gives the same bits, other tests do not notice.
    pub(crate) static AT_MOST: RwLock<Option<Level>> = RwLock::new(None);
}
