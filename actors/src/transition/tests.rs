//! What `transition` promises: every pair of state and input, every rule, whole lives, and any sequence of inputs.

mod life;
mod lost_replies;
mod pairs;
mod properties;
mod rules;
mod whole_lives;
