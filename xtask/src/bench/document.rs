//! docs/performance.md: the section that a run writes, and under which conditions it ran.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context, ensure};

use super::table::Table;

#[cfg(test)]
mod tests;

const PATH: &str = "docs/performance.md";
const KAFKA_POM: &str = include_str!("../../services/kafka/pom.xml");
const CASSANDRA_POM: &str = include_str!("../../services/cassandra/pom.xml");

/// Machine, versions, date and load.
pub struct Conditions(Vec<(&'static str, String)>);

impl Conditions {
    /// As they are now, before anything is started.
    pub fn look(binary: &Path, is_release: bool) -> Self {
        let build = if is_release { "release build" } else { "given by --binary: perhaps no release build" };
        Self::of_machine().and("program", &format!("{}, {build}", said(&binary.to_string_lossy(), &["--version"])))
    }

    pub fn of_machine() -> Self {
        let cores = available_parallelism().map_or(0, usize::from);
        let kernel = said("uname", &["-sr"]);
        Self(vec![
            ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("machine", format!("{}, {cores} cores, {}, {kernel}", processor(), memory())),
            ("load before", load()),
        ])
    }

    pub fn and(mut self, what: &'static str, value: &str) -> Self {
        self.0.push((what, value.to_owned()));
        self
    }

    pub fn and_servers(self) -> anyhow::Result<Self> {
        let kafka = version_of(KAFKA_POM, "kafka_2.13").context("the version of Kafka")?;
        let cassandra = version_of(CASSANDRA_POM, "cassandra-all").context("the version of Cassandra")?;
        let redis = said("redis-server", &["--version"]);
        let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version");
        let servers = format!("Kafka {kafka}, Cassandra {cassandra}, Redis {redis}");
        Ok(self.and("servers", &format!("{servers}; one of each, on this machine; Cassandra's commit log periodic")))
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    fn markdown(&self) -> String {
        self.0.iter().map(|(name, value)| format!("* {name}: {value}\n")).collect()
    }
}

/// Puts the figures into the section of the document for what was measured.
pub fn write(root: &Path, section: &str, conditions: &Conditions, table: &Table) -> anyhow::Result<()> {
    let path = root.join(PATH);
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = with_section(&old, section, &format!("{}\n{}", conditions.markdown(), table.markdown()))?;
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn with_section(document: &str, section: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = markers(section);
    let what = || format!("{PATH} has no section between {begin} and {end}");
    let (before, rest) = document.split_once(&begin).with_context(what)?;
    let (_, after) = rest.split_once(&end).with_context(what)?;
    ensure!(!after.contains(&begin), "{PATH} has two sections that begin with {begin}");
    Ok(format!("{before}{begin}\n{text}{end}{after}"))
}

fn markers(section: &str) -> (String, String) {
    (format!("<!-- bench {section} -->"), format!("<!-- /bench {section} -->"))
}

/// The first line that a program prints; nothing of one that cannot be run.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Of a dependency.
fn version_of<'a>(pom: &'a str, artifact: &str) -> Option<&'a str> {
    let (_, rest) = pom.split_once(&format!("<artifactId>{artifact}</artifactId>"))?;
    let (_, rest) = rest.split_once("<version>")?;
    rest.split_once("</version>").map(|(version, _)| version)
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let kilobytes: f64 = kilobytes.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    format!("{:.0} GiB of memory", kilobytes / f64::from(1 << 20))
}

/// Of one, five and fifteen minutes.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
