//! Voice activity: Silero's model, one 32 ms frame at a time.

use std::path::Path;

use ort::session::Session;
use ort::value::TensorRef;

use crate::onnx::{self, ModelError};

/// Milliseconds of a frame, at both rates the model takes.
pub const FRAME_MS: usize = 32;

const STATE: usize = 2 * 128;

/// Silero's model (PyPI `silero-vad` 6.2.3): used by one thread at a time, for any number of
/// channels, each of which has its own [`VadState`].
pub struct Vad {
    session: Session,
}

/// What the model remembers of one channel: its recurrent state and the end of the last frame.
#[derive(Clone, Debug)]
pub struct VadState {
    rate: u32,
    memory: Vec<f32>,
    window: Vec<f32>,
}

impl Vad {
    /// Opens the model in the cache.
    ///
    /// # Errors
    /// The file or the runtime is missing or broken.
    pub fn open(cache: &Path) -> Result<Self, ModelError> {
        let path = onnx::model_dir(cache, "silero-vad").join("silero_vad.onnx");
        Ok(Self {
            session: onnx::session(cache, &path)?,
        })
    }

    /// The probability, 0 to 1, that someone speaks in this frame of the state's channel.
    ///
    /// `frame` holds [`VadState::frame`] samples. A frame of digital silence is no speech and
    /// makes the model forget: it need not be asked.
    ///
    /// # Errors
    /// The model failed.
    pub fn probability(&mut self, state: &mut VadState, frame: &[f32]) -> Result<f32, ModelError> {
        const LEAST_BIT: f32 = 1.0 / 32768.0;
        if frame.iter().all(|sample| sample.abs() <= LEAST_BIT) {
            state.forget();
            return Ok(0.0);
        }
        let context = state.window.len() - frame.len();
        state.window.copy_within(frame.len().., 0);
        state.window[context..].copy_from_slice(frame);
        let rate = [i64::from(state.rate)];
        let outputs = self.session.run(ort::inputs! {
            "input" => TensorRef::from_array_view(([1, state.window.len()], &state.window[..]))?,
            "state" => TensorRef::from_array_view(([2usize, 1, 128], &state.memory[..]))?,
            "sr" => TensorRef::from_array_view(([0usize; 0], &rate[..]))?,
        })?;
        let (_, memory) = outputs["stateN"].try_extract_tensor::<f32>()?;
        state.memory.copy_from_slice(memory);
        let (_, output) = outputs["output"].try_extract_tensor::<f32>()?;
        Ok(output.first().copied().unwrap_or(0.0))
    }
}

impl VadState {
    /// Nothing heard yet. `rate` is 8000 or 16000 Hz.
    pub fn new(rate: u32) -> Self {
        let frame = rate as usize * FRAME_MS / 1000;
        // The model looks back an eighth of a frame.
        Self {
            rate,
            memory: vec![0.0; STATE],
            window: vec![0.0; frame + frame / 8],
        }
    }

    /// Samples of a frame.
    pub fn frame(&self) -> usize {
        self.rate as usize * FRAME_MS / 1000
    }

    fn forget(&mut self) {
        self.memory.fill(0.0);
        self.window.fill(0.0);
    }
}
