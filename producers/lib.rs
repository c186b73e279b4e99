//! How a call gets in.

pub mod audio;
pub mod call;
pub mod samples;
pub mod transcript;
pub mod wav;
