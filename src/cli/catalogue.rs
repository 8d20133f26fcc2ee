//! `kubeml catalogue`: the models, hyperparameters and metrics that this version knows.

use clap::Args;
use kubeml_spec::catalogue;

#[derive(Debug, Args)]
pub struct Catalogue {
    /// Print JSON, as GET /api/v1/catalogue answers it
    #[arg(long)]
    json: bool,
}

impl Catalogue {
    pub fn text(&self) -> String {
        if self.json { format!("{:#}\n", catalogue::catalogue()) } else { catalogue::markdown() }
    }
}
