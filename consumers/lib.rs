//! What happens to a call: one folder a stage.

pub mod onnx;
