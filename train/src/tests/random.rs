//! Random numbers, masks, orders and first values.

use kubeml_spec::Draft;
use proptest::prelude::*;

use super::{built, data, small_data};
use crate::batches::{Plan, shard_count, shard_rows};
use crate::parameters::Initialiser;
use crate::rng::{Purpose, Stream};

#[test]
fn philox_gives_the_known_answers() {
    // From Random123's kat_vectors, philox4x32-10; the counter's last word is the purpose and layer.
    let zero = crate::rng::philox_of([0; 4], [0; 2]);
    assert_eq!(zero, [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
    let ones = crate::rng::philox_of([u32::MAX; 4], [u32::MAX; 2]);
    assert_eq!(ones, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
    let pi = crate::rng::philox_of([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]);
    assert_eq!(pi, [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]);
}

#[test]
fn streams_differ_by_seed_purpose_layer_step_and_row() {
    let base = Stream::new(1, Purpose::Dropout, 2).block(3, 4, 5);
    for other in [
        Stream::new(2, Purpose::Dropout, 2).block(3, 4, 5),
        Stream::new(1 << 32 | 1, Purpose::Dropout, 2).block(3, 4, 5),
        Stream::new(1, Purpose::Init, 2).block(3, 4, 5),
        Stream::new(1, Purpose::Dropout, 3).block(3, 4, 5),
        Stream::new(1, Purpose::Dropout, 2).block(4, 4, 5),
        Stream::new(1, Purpose::Dropout, 2).block(3, 5, 5),
        Stream::new(1, Purpose::Dropout, 2).block(3, 4, 6),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn a_mask_drops_its_share_and_keeps_the_mean() {
    let stream = Stream::new(9, Purpose::Dropout, 0);
    for (dropped, units) in [(13_107, 128), (32_768, 1_600), (6_554, 37)] {
        let rate = f64::from(dropped) / 65_536.0;
        let kept_value = (1.0 / (1.0 - rate)) as f32;
        let mut rows = vec![0.0; 1_000 * units];
        for (row, mask) in rows.chunks_exact_mut(units).enumerate() {
            stream.keep_mask(5, row as u32, dropped, kept_value, mask);
        }
        let zeros = rows.iter().filter(|value| **value == 0.0).count();
        assert!(rows.iter().all(|value| *value == 0.0 || *value == kept_value));
        let deviation = (rate * (1.0 - rate) / rows.len() as f64).sqrt();
        assert!((zeros as f64 / rows.len() as f64 - rate).abs() < 5.0 * deviation, "{zeros} of {}", rows.len());
    }
}

#[test]
fn a_masks_units_are_the_words_of_their_blocks() {
    let stream = Stream::new(9, Purpose::Dropout, 4);
    let mut mask = [0.0; 300];
    stream.keep_mask(8, 2, 30_000, 1.0, &mut mask);
    for (unit, value) in mask.iter().enumerate() {
        let (group, within) = (unit / 128, unit % 128);
        let words = stream.block(8, 2, (group * 16 + within % 16) as u32);
        let half = within / 16;
        let bits = words[half / 2] >> (16 * (half % 2)) & 0xFFFF;
        assert_eq!(*value == 0.0, bits < 30_000, "unit {unit}");
    }
}

#[test]
fn an_orders_exchanges_are_the_first_words_of_their_blocks() {
    let stream = Stream::new(9, Purpose::Shuffle, 4);
    let mut order: Vec<u32> = (0..100).collect();
    for last in (1..100_usize).rev() {
        let [low, high, ..] = stream.block(8, 0, last as u32);
        let word = u128::from(high) << 32 | u128::from(low);
        order.swap(last, ((word * (last as u128 + 1)) >> 64) as usize);
    }
    assert_eq!(stream.permutation(8, 100), order);
}

#[test]
fn uniform_numbers_are_the_words_of_their_blocks() {
    let stream = Stream::named(9, Purpose::Init, "dense.weight");
    for (at, number) in stream.uniforms(203).into_iter().enumerate() {
        let word = stream.block(0, 0, at as u32 / 4)[at % 4];
        assert_eq!(number, (f64::from(word) + 0.5) / 4_294_967_296.0, "number {at}");
    }
}

#[test]
fn normal_numbers_have_mean_0_and_variance_1() {
    let stream = Stream::named(9, Purpose::Init, "lstm.recurrent_kernel");
    let numbers = stream.normals(100_001);
    let moment = |power| numbers.iter().map(|number| number.powi(power)).sum::<f64>() / numbers.len() as f64;
    // Five standard deviations each.
    assert!(moment(1).abs() < 0.016 && (moment(2) - 1.0).abs() < 0.023 && (moment(4) - 3.0).abs() < 0.155);
    assert_eq!(stream.normals(7), numbers[..7]);
}

proptest! {
    #[test]
    fn an_order_is_a_permutation(seed: u64, epoch in 0..1_000u32, n in 0..500u32) {
        let mut order = Stream::new(seed, Purpose::Shuffle, 0).permutation(epoch, n);
        order.sort_unstable();
        prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn shards_cover_a_batch_in_order(batch in 1..9_000usize) {
        let shards = shard_count(batch);
        prop_assert!((1..=16).contains(&shards));
        let rows: Vec<_> = (0..shards).flat_map(|index| shard_rows(batch, shards, index)).collect();
        prop_assert_eq!(rows, (0..batch).collect::<Vec<_>>());
    }
}

#[test]
fn epochs_are_shuffled_differently_and_every_place_is_equally_likely() {
    let stream = Stream::new(1, Purpose::Shuffle, 0);
    assert_ne!(stream.permutation(0, 100), stream.permutation(1, 100));
    let mut counts = [[0_u32; 5]; 5];
    for epoch in 0..10_000 {
        for (place, value) in stream.permutation(epoch, 5).into_iter().enumerate() {
            counts[place][value as usize] += 1;
        }
    }
    // 2,000 expected, standard deviation 40.
    assert!(counts.iter().flatten().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
}

#[test]
fn the_samples_held_out_depend_on_the_seed_and_are_never_learned() {
    let data = small_data();
    let draft = Draft::new("mlp").with("validation_fraction", 0.2);
    let plan = |seed: u64| Plan::new(&built(&draft.clone().with("seed", seed)), &data);
    let (one, other) = (plan(1), plan(2));
    assert_eq!(one.held_out.len(), 30);
    assert_ne!(one.held_out, other.held_out);
    let mut all = one.order(3);
    all.extend(&one.held_out);
    all.sort_unstable();
    assert_eq!(all, (0..150).collect::<Vec<_>>());
}

#[test]
fn the_last_batch_of_an_epoch_has_what_is_left() {
    let plan = Plan::new(&built(&Draft::new("mlp").with("batch_size", 64)), &data(150, 4, 5, 5, 3));
    let order = plan.order(0);
    let sizes: Vec<_> = (0..plan.steps_per_epoch()).map(|step| plan.batch(&order, step).len()).collect();
    assert_eq!(sizes, [64, 64, 22]);
}

#[test]
fn glorot_uniform_fills_its_limits() {
    let values = Initialiser::GlorotUniform { fan_in: 784, fan_out: 128 }.values(3, "w", &[784, 128]);
    let limit = (6.0_f64 / 912.0).sqrt() as f32;
    assert!(values.iter().all(|value| value.abs() <= limit));
    let count = values.len() as f64;
    let mean: f64 = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / count;
    assert!(mean.abs() < 1e-3 && (variance / (2.0 / 912.0) - 1.0).abs() < 0.01, "{mean} {variance}");
    assert!(values.iter().any(|value| *value > 0.99 * limit) && values.iter().any(|value| *value < -0.99 * limit));
}

#[test]
fn recurrent_kernels_are_orthogonal() {
    for (rows, columns) in [(128, 512), (13, 52), (1, 4), (9, 3)] {
        let values = Initialiser::Orthogonal.values(3, "r", &[rows, columns]);
        let (short, row_step, step) = if rows <= columns { (rows, columns, 1) } else { (columns, 1, columns) };
        for one in 0..short {
            for two in 0..=one {
                let at = |vector: usize, index: usize| f64::from(values[vector * row_step + index * step]);
                let overlap: f64 = (0..rows.max(columns)).map(|index| at(one, index) * at(two, index)).sum();
                let expected = if one == two { 1.0 } else { 0.0 };
                assert!((overlap - expected).abs() < 1e-6, "{one} {two}: {overlap}");
            }
        }
    }
}

/// Gram-Schmidt as it is written down: each vector by itself, all before it twice.
#[test]
fn vectors_made_orthonormal_in_pairs_are_those_made_one_by_one() {
    for (rows, columns) in [(128, 512), (13, 52), (9, 30), (1, 4)] {
        let mut vectors = Stream::named(3, Purpose::Init, "r").normals(rows * columns);
        for at in 0..rows {
            let (before, rest) = vectors.split_at_mut(at * columns);
            let vector = &mut rest[..columns];
            for other in before.chunks_exact(columns).chain(before.chunks_exact(columns)) {
                let overlap = in_eight_sums(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, other)| *value -= overlap * other);
            }
            let norm = in_eight_sums(vector, vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= norm);
        }
        let one_by_one: Vec<f32> = vectors.into_iter().map(|value| value as f32).collect();
        assert_eq!(Initialiser::Orthogonal.values(3, "r", &[rows, columns]), one_by_one, "{rows} x {columns}");
    }
}

fn in_eight_sums(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    a.iter().zip(b).enumerate().for_each(|(at, (a, b))| sums[at % 8] += a * b);
    ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
}

#[test]
fn only_the_forget_gates_bias_is_one() {
    let bias = Initialiser::ForgetGateOne.values(3, "b", &[12]);
    assert_eq!(bias, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(Initialiser::Zeros.values(3, "z", &[3]), [0.0; 3]);
}

#[test]
fn first_values_depend_on_the_seed_and_the_name() {
    let glorot = Initialiser::GlorotUniform { fan_in: 3, fan_out: 3 };
    assert_eq!(glorot.values(1, "a", &[3, 3]), glorot.values(1, "a", &[3, 3]));
    assert_ne!(glorot.values(1, "a", &[3, 3]), glorot.values(2, "a", &[3, 3]));
    assert_ne!(glorot.values(1, "a", &[3, 3]), glorot.values(1, "b", &[3, 3]));
}
