//! Who trains: this engine, and the frameworks that people would take otherwise.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use super::{Model, epochs::Epochs, peers::Peers};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    Kubeml,
    Torch,
    Jax,
    Keras,
}

/// What all have in common.
#[derive(Clone, Copy)]
pub struct Course<'a> {
    pub binary: &'a Path,
    pub peers: &'a Peers,
    /// Of the files.
    pub mnist: &'a Path,
    pub epochs: u32,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubeml => "kubeml",
            Self::Torch => "PyTorch",
            Self::Jax => "JAX",
            Self::Keras => "Keras",
        }
    }

    pub fn can_train(self, model: Model) -> bool {
        // It did not finish an epoch within ten minutes.
        !(self == Self::Jax && model == Model::Cnn)
    }

    /// One turn, of all the course's epochs.
    pub fn train(self, model: Model, course: &Course<'_>) -> anyhow::Result<Epochs> {
        let script = match self {
            Self::Kubeml => return course.ours(model, &[]),
            Self::Torch => "torch_peer.py",
            Self::Jax => "jax_peer.py",
            Self::Keras => "keras_peer.py",
        };
        let mut command = course.peers.command(script);
        command.arg(course.mnist).args([model.name(), &course.epochs.to_string()]);
        let epochs = Epochs::of_lines(&said(&mut command)?);
        ensure!(epochs.count() == course.epochs as usize, "{script} told of {} epochs", epochs.count());
        Ok(epochs)
    }
}

impl Course<'_> {
    /// A turn of this engine, by the command that its users type.
    pub fn ours(&self, model: Model, arguments: &[&str]) -> anyhow::Result<Epochs> {
        let mut command = Command::new(self.binary);
        command.args(["train", model.name(), "--json", "--epochs", &self.epochs.to_string()]).args(arguments);
        command.env("KUBEML__DATASETS__MNIST__DIR", self.mnist);
        Ok(Epochs::of_events(&said(&mut command)?))
    }
}

/// What a program prints, which must succeed.
pub fn said(command: &mut Command) -> anyhow::Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {what}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}\n{error}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
