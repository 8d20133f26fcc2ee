//! "Did you mean": the known name nearest to one that was mistyped.

/// The one of `names` that `written` was probably meant to be, if one is near enough.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let near_enough = (written.chars().count() / 3).clamp(1, 3);
    let with_distance = names.into_iter().map(|name| (edit_distance(&written.to_lowercase(), name), name));
    with_distance.filter(|(distance, _)| *distance <= near_enough).min().map(|(_, name)| name)
}

/// The key that `written` was probably meant to be: one of the same name in another section, else the nearest.
pub fn nearest_key<'k>(written: &str, keys: impl IntoIterator<Item = &'k str> + Clone) -> Option<&'k str> {
    let name = last_name(written);
    let elsewhere = keys.clone().into_iter().filter(|key| last_name(key) == name);
    let near = nearest(written, keys.clone());
    near.or_else(|| elsewhere.min_by_key(|key| edit_distance(written, key))).or_else(|| {
        let names = keys.clone().into_iter().map(last_name);
        let name = nearest(name, names)?;
        keys.into_iter().find(|key| last_name(key) == name)
    })
}

fn last_name(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// How many characters must be inserted, removed or replaced to turn one text into the other (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] =
        ["http.listen", "node.roles", "tasks.no_progress_max", "trainer.slots", "trainer.stall_timeout"];

    #[test]
    fn counts_the_edits_between_two_texts() {
        for (from, to, edits) in
            [("", "", 0), ("", "abc", 3), ("slots", "slot", 1), ("kitten", "sitting", 3), ("ö", "o", 1)]
        {
            assert_eq!((edit_distance(from, to), edit_distance(to, from)), (edits, edits), "{from} {to}");
        }
    }

    #[test]
    fn a_mistyped_key_finds_the_one_that_was_meant() {
        for (written, meant) in [
            ("http.lissten", Some("http.listen")),
            ("HTTP.LISTEN", Some("http.listen")),
            ("http_listen", Some("http.listen")),
            ("tasks.no-progress-max", Some("tasks.no_progress_max")),
            ("listen", Some("http.listen")),
            ("tasks.slots", Some("trainer.slots")),
            ("cache.rolls", Some("node.roles")),
            ("http.zygote", None),
            ("x", None),
        ] {
            assert_eq!(nearest_key(written, KEYS), meant, "{written}");
        }
    }
}
