//! How a call gets in.

pub mod audio;
