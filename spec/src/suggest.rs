//! "did you mean": the known word that is most like a wrong one.

/// Words whose similarity (Jaro-Winkler, 0 to 1) is below this are not taken for a slip.
const SIMILARITY_MIN: f64 = 0.82;

/// The word of `known` that `word` is most probably a slip of.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = scored.max_by(|one, two| one.0.total_cmp(&two.0))?;
    (best.0 >= SIMILARITY_MIN).then_some(best.1)
}

/// `; did you mean "epochs"?`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, known).map_or_else(String::new, |known| format!("; did you mean {known:?}?"))
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["epochs", "batch_size", "learning_rate", "weight_decay"];
        for (word, meant) in [
            ("epoch", Some("epochs")),
            ("batchsize", Some("batch_size")),
            ("learning-rate", Some("learning_rate")),
            ("learnig_rate", Some("learning_rate")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
    }
}
