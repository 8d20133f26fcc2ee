//! Durations in numbers and words, and the times that events tell.

use std::{fmt, time::Duration};

use anyhow::Context;

#[cfg(test)]
mod tests;

/// Durations of the same thing, measured several times.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        let place = self.0.partition_point(|other| *other <= sample);
        self.0.insert(place, sample);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> Duration {
        self.quantile(50)
    }

    pub fn p99(&self) -> Duration {
        self.quantile(99)
    }

    pub fn max(&self) -> Duration {
        self.quantile(100)
    }

    /// The smallest sample that `percent` of all do not exceed; zero of none.
    fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

/// As people read it: `12.3 ms`, `4.56 s`.
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            ..1.0 => write!(f, "{:.1} ms", seconds * 1e3),
            ..100.0 => write!(f, "{seconds:.2} s"),
            _ => write!(f, "{seconds:.0} s"),
        }
    }
}

/// Microseconds since 1970 of a time like `2026-01-31T12:00:00.123Z`.
pub fn micros_of(time: &str) -> anyhow::Result<u64> {
    parse(time).with_context(|| format!("{time:?} is no time in UTC as RFC 3339 has it"))
}

fn parse(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hours, minutes, seconds] = numbers(clock, ':').filter(|[h, m, s]| *h < 24 && *m < 60 && *s < 60)?;
    let seconds = ((days(year, month, day)? * 24 + hours) * 60 + minutes) * 60 + seconds;
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(seconds * 1_000_000 + micros)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Since 1970, until 2100.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    if !(1970..2100).contains(&year) {
        return None;
    }
    let before_month = BEFORE_MONTH.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let leap_days = (year - 1969) / 4 + u64::from(year.is_multiple_of(4) && month > 2);
    Some((year - 1970) * 365 + leap_days + before_month + day.checked_sub(1)?)
}
