//! What happens to a call: one folder a stage.

pub mod coaching;
pub mod crm;
pub mod gateway;
pub mod insights;
pub mod masking;
pub mod onnx;
pub mod registry;
pub mod reporting;
pub mod script;
pub mod transcription;
