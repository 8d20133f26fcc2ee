//! What the example prints is read.

use super::*;

const TOLD: &str = "cnn seed 1 threads 2 epoch 1 1000 samples/s\n\
                    cnn seed 1 threads 2 step in us: shards 624 update 200.5 between 1\n\
                    cnn seed 1 threads 2 checkpoint in us: taken 300 saved 4000 speed 0.998\n";

#[test]
fn figures_are_found_by_what_stands_before_them() {
    assert_eq!(figures(TOLD, "step in us: "), Some([624.0, 200.5, 1.0]));
    assert_eq!(figures(TOLD, "checkpoint in us: "), Some([300.0, 4000.0, 0.998]));
    assert_eq!(figures::<2>(TOLD, "step in us: "), None);
    assert_eq!(figures::<3>(TOLD, "nothing: "), None);
    assert_eq!(figures::<3>("step in us: shards x update 1 between 1", "step in us: "), None);
}

#[test]
fn rows_say_what_a_step_and_a_checkpoint_take() -> anyhow::Result<()> {
    let mut table = Table::default();
    table.add(step(Model::Cnn, 2, TOLD, TOLD)?);
    table.add(checkpoint(Model::Cnn, 2, TOLD)?);
    let text = table.text();
    assert!(text.contains("826 us") && text.contains("0.23 % of the time") && text.contains("met"), "{text}");
    assert!(step(Model::Cnn, 2, "", TOLD).is_err() && checkpoint(Model::Cnn, 2, "").is_err());
    Ok(())
}
