//! Datasets that a short while ago were found nowhere.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// After a failed lookup, the stand-in is used for this long before the source is asked again.
const ABSENT_FOR: Duration = Duration::from_secs(60);
/// Names remembered: users invent them, so the oldest is forgotten for a new one. It is looked up once more then.
const ABSENCES_MAX: usize = 64;

#[derive(Default)]
pub struct Absences {
    /// The newest last, each name once.
    noted: VecDeque<Absence>,
}

struct Absence {
    name: String,
    since: Instant,
    reason: String,
}

impl Absences {
    pub fn note(&mut self, name: &str, reason: &str) {
        self.forget(name);
        if self.noted.len() >= ABSENCES_MAX {
            self.noted.pop_front();
        }
        self.noted.push_back(Absence { name: name.to_owned(), since: Instant::now(), reason: reason.to_owned() });
    }

    pub fn forget(&mut self, name: &str) {
        self.noted.retain(|absence| absence.name != name);
    }

    /// Why the dataset could not be had, if that was found out a short while ago.
    pub fn reason(&self, name: &str) -> Option<&str> {
        let absence = self.noted.iter().find(|absence| absence.name == name)?;
        (absence.since.elapsed() < ABSENT_FOR).then_some(absence.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_remembered_for_a_while_or_until_the_dataset_is_there() {
        let mut absences = Absences::default();
        assert_eq!(absences.reason("mnist"), None);
        absences.note("mnist", "no network");
        advance(ABSENT_FOR / 2).await;
        absences.note("mnist", "no file");
        advance(ABSENT_FOR / 2).await;
        assert_eq!(absences.reason("mnist"), Some("no file"));
        advance(ABSENT_FOR / 2).await;
        assert_eq!(absences.reason("mnist"), None);
        absences.note("mnist", "no file");
        absences.forget("mnist");
        assert_eq!(absences.reason("mnist"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_names_users_invent_only_the_newest_are_remembered() {
        let mut absences = Absences::default();
        for number in 0..10 * ABSENCES_MAX {
            absences.note(&format!("invented-{number}"), "there is no such dataset");
            assert!(absences.noted.len() <= ABSENCES_MAX);
        }
        let newest = format!("invented-{}", 10 * ABSENCES_MAX - 1);
        assert_eq!(absences.reason(&newest), Some("there is no such dataset"));
        assert_eq!(absences.reason("invented-0"), None);
    }
}
