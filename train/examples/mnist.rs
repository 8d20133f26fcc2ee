//! Trains the reference models on real MNIST and prints speed, accuracy, the weights' hash, and where a step's time goes.
//!
//! `mnist DIR [MODELS] [EPOCHS] [THREADS] [SEEDS]`: the folder with the four IDX files (.gz), then comma-separated lists.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use flate2::read::GzDecoder;
use kubeml_train::{
    Data, DataParts, EpochMetrics, FitSpec, ModelSpec, Observer, Outcome, Phase, Split, Threads, Trained, fit,
};

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_string());
    let Some(folder) = arguments.first() else {
        return Err("usage: mnist DIR [mlp,cnn,lstm] [EPOCHS] [THREADS,..] [SEED,..]".into());
    };
    let data = load(Path::new(folder))?;
    for model in argument(1, "mlp,cnn,lstm").split(',') {
        for seed in argument(4, "1").split(',') {
            for threads in argument(3, "2").split(',') {
                train(&data, model, argument(2, "5").parse()?, threads.parse()?, seed.parse()?)?;
            }
        }
    }
    Ok(())
}

fn train(data: &Data, model: &str, epochs: u32, threads: usize, seed: u64) -> Result<(), Failed> {
    let model = match model {
        "mlp" => ModelSpec::mlp(),
        "cnn" => ModelSpec::cnn(),
        "lstm" => ModelSpec::lstm(),
        other => return Err(format!("there is no model {other}").into()),
    };
    let label = format!("{} seed {seed} threads {threads}", model.kind());
    let spec = FitSpec { epochs, seed, ..FitSpec::new(model) };
    let mut printer = Printer { label: label.clone(), start: Instant::now(), phases: Vec::new() };
    match fit(&spec, data, None, &Threads::new(threads), &mut printer)? {
        Outcome::Finished(trained) => {
            report(&label, &trained, printer.start.elapsed().as_secs_f64());
            printer.report_phases();
        }
        Outcome::Stopped(_) => return Err("nobody asked it to stop".into()),
    }
    Ok(())
}

fn report(label: &str, trained: &Trained, seconds: f64) {
    println!(
        "{label} done in {seconds:.1} s: test {:.4} loss {:.4} best {:.4} (epoch {}) {} weights {}",
        trained.test.accuracy,
        trained.test.loss,
        trained.best_test.accuracy,
        trained.best.epoch,
        trained.kernel_set,
        &trained.weights_sha256[..16],
    );
}

struct Printer {
    label: String,
    start: Instant,
    /// As they began.
    phases: Vec<(Phase, Instant)>,
}

impl Printer {
    /// Medians over all steps, in microseconds.
    fn report_phases(&self) {
        let median = |wanted: Phase| {
            let pairs = self.phases.windows(2).filter(|pair| pair[0].0 == wanted);
            let mut times: Vec<_> = pairs.map(|pair| (pair[1].1 - pair[0].1).as_secs_f64() * 1e6).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let [shards, update, between] = [Phase::Shards, Phase::Update, Phase::Between].map(median);
        println!("{} step in us: shards {shards:.0} update {update:.0} between {between:.0}", self.label);
    }
}

impl Observer for Printer {
    fn phase(&mut self, phase: Phase) {
        self.phases.push((phase, Instant::now()));
    }

    fn epoch_finished(&mut self, metrics: &EpochMetrics) -> kubeml_train::Control {
        println!(
            "{} epoch {} {:>8.0} samples/s loss {:.4} accuracy {:.4} val_loss {:.4} val_accuracy {:.4}",
            self.label,
            metrics.epoch,
            metrics.samples_per_second(),
            metrics.loss,
            metrics.accuracy,
            metrics.val_loss,
            metrics.val_accuracy,
        );
        kubeml_train::Control::Continue
    }

    fn now_seconds(&mut self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

fn load(folder: &Path) -> Result<Data, Failed> {
    let split = |prefix: &str| -> Result<Split, Failed> {
        Ok(Split {
            images: idx(&folder.join(format!("{prefix}-images-idx3-ubyte.gz")), 16)?.into(),
            labels: idx(&folder.join(format!("{prefix}-labels-idx1-ubyte.gz")), 8)?.into(),
        })
    };
    let (train, test) = (split("train")?, split("t10k")?);
    Ok(Data::new(DataParts { height: 28, width: 28, classes: 10, train, test, hash: "mnist".to_string() })?)
}

/// The bytes after an IDX file's header.
fn idx(path: &Path, header_bytes: usize) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes.split_off(header_bytes.min(bytes.len())))
}
