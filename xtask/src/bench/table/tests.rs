//! Tables from rows made by hand.

use super::*;

#[test]
fn a_goal_stands_beside_its_figure_and_is_met_or_missed() {
    let mut samples = Samples::default();
    (1..=10).for_each(|millis| samples.add(Duration::from_millis(millis)));
    let mut table = Table::default();
    table.add(Row::of_samples("a | b", &samples).goal_median(&samples, Duration::from_millis(6)).note("slow"));
    table.add(Row::new("c", "1 s").goal("< 1 s", false));
    table.add(Row::new("d", "7"));
    let markdown = table.markdown();
    let lines: Vec<_> = markdown.lines().skip(2).collect();
    assert_eq!(lines[0], "| a \\| b | 5.0 ms / 10.0 ms | p50 < 6 ms | met | p50 / p99 of 10; slow |");
    assert_eq!(lines[1], "| c | 1 s | < 1 s | missed |  |");
    assert_eq!(lines[2], "| d | 7 |  |  |  |");
    assert!(!table.has_failures());
}

#[test]
fn what_could_not_be_measured_is_said() {
    let mut table = Table::default();
    table.fail("Submit", &anyhow::anyhow!("no answer\nthe end of a long log"));
    assert!(table.has_failures());
    assert!(table.text().contains("not measured") && !table.text().contains("long log"), "{}", table.text());
}
