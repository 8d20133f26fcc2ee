//! The Python environment of the frameworks that are compared: outside the checkout, as it is large.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use crate::{chores::services::progress, runner::Runner};

const SCRIPTS: &str = "benches/peers";
const PACKAGES: [&str; 3] = ["torch", "jax", "tensorflow"];
const INSTALL_LIMIT: Duration = Duration::from_secs(3600);

pub struct Peers {
    python: PathBuf,
    scripts: PathBuf,
}

impl Peers {
    /// Makes the environment where it is missing.
    pub fn ready(root: &Path, environment: &Path) -> anyhow::Result<Self> {
        let (python, scripts) = (environment.join("bin/python"), root.join(SCRIPTS));
        let runner = Runner::new(root, INSTALL_LIMIT);
        let program = python.to_str().context("the path of the Python environment is no UTF-8")?;
        let imports = format!("import {}, optax", PACKAGES.join(", "));
        if !runner.succeeds(program, &["-c", &imports]) {
            progress(&format!(
                "installing PyTorch, JAX and TensorFlow into {}: this takes a while",
                environment.display()
            ));
            let requirements = scripts.join("requirements.txt");
            runner.run("python3", &["-m", "venv", &environment.to_string_lossy()], &[])?;
            runner.run(program, &["-m", "pip", "install", "--requirement", &requirements.to_string_lossy()], &[])?;
        }
        Ok(Self { python, scripts })
    }

    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.scripts.join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// As pip knows them.
    pub fn versions(&self) -> anyhow::Result<String> {
        let ask = format!(
            "import importlib.metadata as m, sys; print('Python ' + sys.version.split()[0], *(p + ' ' + m.version(p) for p in {PACKAGES:?}), sep=', ')"
        );
        let output = Command::new(&self.python).args(["-c", &ask]).output().context("cannot ask for versions")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
