//! What comes over Kafka in the older system's words is submitted like everything else.

use async_trait::async_trait;
use kubeml_actors::{
    task::Submission,
    task_dispatcher::{DispatchError, TaskDispatcher},
};

use crate::edges::kafka::{NotSubmitted, Submit};

pub struct Submissions(pub TaskDispatcher);

#[async_trait]
impl Submit for Submissions {
    async fn submit(&self, submission: Submission) -> Result<(), NotSubmitted> {
        match self.0.submit(submission).await {
            Ok(_) => Ok(()),
            Err(DispatchError::Store(error)) if !error.is_transient() => Err(NotSubmitted::Never(error.to_string())),
            Err(error @ (DispatchError::Store(_) | DispatchError::Ask(_) | DispatchError::QueueFull(_))) => {
                Err(NotSubmitted::Later(error.to_string()))
            }
            Err(error @ (DispatchError::IdTaken(_) | DispatchError::NoSuchTask(_) | DispatchError::Ended(..))) => {
                Err(NotSubmitted::Never(error.to_string()))
            }
        }
    }
}
