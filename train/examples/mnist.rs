//! Trains the reference models on real MNIST and prints speed, accuracy, the weights' hash, and where a step's time goes.
//!
//! `mnist DIR [MODELS] [EPOCHS] [THREADS] [SEEDS] [CHECKPOINT_SECONDS]`: the folder with the four IDX files (.gz), then
//! comma-separated lists. With the last, every second epoch takes checkpoints that often, and their cost is printed.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use flate2::read::GzDecoder;
use kubeml_spec::{Draft, EpochMetrics, problem::on_one_line};
use kubeml_train::{Data, DataParts, Ended, Observer, Phase, Snapshot, Split, StepProgress, Threads, Trained, fit};

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_string());
    let Some(folder) = arguments.first() else {
        return Err("usage: mnist DIR [mlp,cnn,lstm] [EPOCHS] [THREADS,..] [SEED,..] [CHECKPOINT_SECONDS]".into());
    };
    let data = load(Path::new(folder))?;
    let every = arguments.get(5).map(|seconds| seconds.parse()).transpose()?;
    for model in argument(1, "mlp,cnn,lstm").split(',') {
        for seed in argument(4, "1").split(',') {
            for threads in argument(3, "2").split(',') {
                let printer = Printer::new(format!("{model} seed {seed} threads {threads}"), every);
                train(&data, model, argument(2, "5").parse()?, threads.parse()?, seed.parse()?, printer)?;
            }
        }
    }
    Ok(())
}

fn train(data: &Data, model: &str, epochs: u32, threads: usize, seed: u64, mut printer: Printer) -> Result<(), Failed> {
    let draft = Draft::new(model).with("epochs", epochs).with("seed", seed);
    let spec = draft.build().map_err(|problems| on_one_line(&problems))?;
    match fit(&spec, data, None, &Threads::new(threads), &mut printer)? {
        Ended::Finished(trained) => {
            report(&printer.label, &trained, printer.start.elapsed().as_secs_f64());
            printer.report_phases();
            printer.report_checkpoints();
        }
        Ended::Stopped(_) => return Err("training stopped although the observer did not ask for it".into()),
    }
    Ok(())
}

fn report(label: &str, trained: &Trained, seconds: f64) {
    let outcome = &trained.outcome;
    println!(
        "{label} done in {seconds:.1} s: test {:.4} loss {:.4} best {:.4} (epoch {}) {} weights {}",
        outcome.test.accuracy,
        outcome.test.loss,
        outcome.best_test.accuracy,
        outcome.best_epoch,
        outcome.kernel_set,
        &outcome.weights_sha256[..16],
    );
}

struct Printer {
    label: String,
    start: Instant,
    /// As they began.
    phases: Vec<(Phase, Instant)>,
    checkpoints: Option<Checkpoints>,
    /// The next snapshot is that of an epoch's end.
    closes_epoch: bool,
}

/// Taken in every second epoch.
struct Checkpoints {
    every: f64,
    /// When the last one was asked for.
    asked: Instant,
    are_taken: bool,
    saver: Sender<Snapshot>,
    saved: JoinHandle<f64>,
    /// Seconds of the training thread.
    taking: Vec<f64>,
    /// Samples per second of epochs without and with them.
    speeds: [Vec<f64>; 2],
}

impl Checkpoints {
    fn new(every: f64) -> Self {
        let (saver, snapshots) = channel::<Snapshot>();
        let saved = thread::spawn(move || snapshots.iter().map(|snapshot| save(&snapshot)).sum());
        let asked = Instant::now();
        Checkpoints {
            every,
            asked,
            are_taken: false,
            saver,
            saved,
            taking: Vec::new(),
            speeds: [Vec::new(), Vec::new()],
        }
    }
}

/// Encodes and writes, as a store would; gives the seconds it took.
fn save(snapshot: &Snapshot) -> f64 {
    let start = Instant::now();
    let path = std::env::temp_dir().join(format!("kubeml-checkpoint-{}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&snapshot.encode())?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    if let Err(error) = written.and(removed) {
        eprintln!("a checkpoint was not written: {error}");
    }
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Printer {
    fn new(label: String, every: Option<f64>) -> Self {
        Printer {
            label,
            start: Instant::now(),
            phases: Vec::new(),
            checkpoints: every.map(Checkpoints::new),
            closes_epoch: false,
        }
    }

    /// What a checkpoint takes of the training thread and of another, and how fast epochs with them are.
    fn report_checkpoints(self) {
        let Some(Checkpoints { saver, saved, taking, speeds: [without, with], .. }) = self.checkpoints else { return };
        drop(saver);
        let count = taking.len().max(1) as f64;
        let (taking, saving) = (taking.iter().sum::<f64>() / count, saved.join().unwrap_or_default() / count);
        println!(
            "{} checkpoint in us: taken {:.0} saved {:.0} speed {:.4}",
            self.label,
            taking * 1e6,
            saving * 1e6,
            median(with) / median(without),
        );
    }

    /// Medians over all steps, in microseconds.
    fn report_phases(&self) {
        let median = |wanted: Phase| {
            let pairs = self.phases.windows(2).filter(|pair| pair[0].0 == wanted);
            median(pairs.map(|pair| (pair[1].1 - pair[0].1).as_secs_f64() * 1e6).collect())
        };
        let [shards, update, between] = [Phase::Shards, Phase::Update, Phase::Between].map(median);
        println!("{} step in us: shards {shards:.0} update {update:.0} between {between:.0}", self.label);
    }
}

impl Observer for Printer {
    fn phase(&mut self, phase: Phase) {
        self.phases.push((phase, Instant::now()));
    }

    fn wants_checkpoint(&mut self, _: &StepProgress) -> bool {
        let Some(checkpoints) = &mut self.checkpoints else { return false };
        let is_due = checkpoints.are_taken && checkpoints.asked.elapsed().as_secs_f64() >= checkpoints.every;
        if is_due {
            checkpoints.asked = Instant::now();
        }
        is_due
    }

    fn checkpoint(&mut self, snapshot: Snapshot) {
        // An epoch's end brings one of its own, after the time that is counted.
        if let Some(checkpoints) = self.checkpoints.as_mut().filter(|_| !self.closes_epoch) {
            let _ = checkpoints.saver.send(snapshot);
            checkpoints.taking.push(checkpoints.asked.elapsed().as_secs_f64());
        }
        self.closes_epoch = false;
    }

    fn epoch_finished(&mut self, metrics: &EpochMetrics) -> kubeml_train::Control {
        self.closes_epoch = true;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.speeds[usize::from(checkpoints.are_taken)].push(metrics.samples_per_second);
            checkpoints.are_taken = !checkpoints.are_taken;
            checkpoints.asked = Instant::now();
        }
        println!(
            "{} epoch {} {:>8.0} samples/s loss {:.4} accuracy {:.4} val_loss {:.4} val_accuracy {:.4}",
            self.label,
            metrics.epoch,
            metrics.samples_per_second,
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
