//! Jars by Maven coordinates: a committed `pom.xml` per server, its class path cached in `target/services-jars`.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::{Progress, plan::Kind};

/// What is committed for a server: its `pom.xml` and the configuration that is always the same.
pub fn committed(kind: Kind) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(kind.name())
}

/// The class path of a server; Maven fetches what is not there yet.
pub fn class_path(kind: Kind, progress: Progress<'_>) -> anyhow::Result<String> {
    let pom = committed(kind).join("pom.xml");
    let content = fs::read(&pom).with_context(|| format!("cannot read {}", pom.display()))?;
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("services-jars");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Maven's own repository does not bear two of them.
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let cached = cache.join(format!("{}-{:016x}.classpath", kind.name(), hash(&content)));
    if let Some(class_path) = fs::read_to_string(&cached).ok().filter(|class_path| all_exist(class_path)) {
        return Ok(class_path);
    }
    progress(&format!("asking Maven for the jars of {}", kind.name()));
    resolve(&pom, &cached)
}

fn resolve(pom: &Path, cached: &Path) -> anyhow::Result<String> {
    let fresh = cached.with_extension("fresh");
    let output = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(pom)
        .args(["dependency:build-classpath", "-DincludeScope=runtime"])
        .arg(format!("-Dmdep.outputFile={}", fresh.display()))
        .stdin(Stdio::null())
        .output()
        .context("cannot run mvn")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        bail!("mvn cannot get the jars of {}: {}", pom.display(), super::last_lines(&said, 12));
    }
    let class_path = fs::read_to_string(&fresh).with_context(|| format!("mvn wrote no {}", fresh.display()))?;
    fs::rename(&fresh, cached)?;
    Ok(class_path)
}

/// The path of one jar of a class path, by the beginning of its file's name.
pub fn find<'a>(class_path: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let has_name =
        |path: &&str| Path::new(path).file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    class_path.trim().split(':').find(has_name).with_context(|| format!("no jar {name}* is on the class path"))
}

fn all_exist(class_path: &str) -> bool {
    class_path.trim().split(':').all(|jar| Path::new(jar).is_file())
}

fn hash(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jar_is_found_by_its_file_name() {
        let class_path = "/jamm-dir/a.jar:/m2/jamm-0.4.0.jar:/m2/b.jar\n";
        assert_eq!(find(class_path, "jamm-").unwrap(), "/m2/jamm-0.4.0.jar");
        assert_eq!(find(class_path, "b").unwrap(), "/m2/b.jar");
        assert!(find(class_path, "jna").is_err());
    }

    #[test]
    fn a_class_path_of_jars_that_were_deleted_is_not_used() {
        assert!(!all_exist(""));
        assert!(!all_exist("/no/such.jar"));
        let pom = committed(Kind::Kafka).join("pom.xml");
        assert!(all_exist(&format!("{0}:{0}\n", pom.display())));
        assert!(!all_exist(&format!("{}:/no/such.jar", pom.display())));
    }
}
