//! Recognises quantized checkpoints, which Vectile does not support, by their config and by their tensors.

use safetensors::Dtype;
use serde_json::Value;

use crate::config::{JsonFile, brief};
use crate::error::Error;
use crate::weights::WeightFiles;

/// The advice in errors about a quantized checkpoint.
const REMEDY: &str = "Vectile reads float weights only; use the original model, and `--dtype float16` or `bfloat16` to \
                      halve its memory";

/// Suffixes of tensor names that only quantized checkpoints have, each with the method that writes such tensors.
const MARKERS: [(&str, &str); 15] = [
    (".SCB", "bitsandbytes 8-bit"),
    (".quant_state.bitsandbytes__nf4", "bitsandbytes 4-bit"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes 4-bit"),
    (".absmax", "bitsandbytes 4-bit"),
    (".quant_map", "bitsandbytes 4-bit"),
    // Only GPTQ writes `g_idx`, while both GPTQ and AWQ write `qweight` and `qzeros`.
    (".g_idx", "GPTQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".qweight", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "fp8"),
    (".weight_scale", "compressed-tensors or fp8"),
    (".weight_zero_point", "compressed-tensors"),
    ("._packed_params", "PyTorch quantization"),
    ("._data", "quanto"),
    (".scales", "MLX"),
];

impl WeightFiles {
    /// Returns an error if the checkpoint is quantized.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] if the config has `quantization_config` or MLX's `quantization`. Returns
    /// [`Error::Tensor`] if there are tensors that only quantized checkpoints have, such as matrices of integers or of
    /// 8-bit floats.
    pub fn check_not_quantized(&self, config: &JsonFile) -> Result<(), Error> {
        for field in ["quantization", "quantization_config", "compression_config"] {
            let Some(value) = config.raw(field) else { continue };
            // If transformers removes the quantization from a config, it leaves an empty object in this field.
            if value.as_object().is_some_and(serde_json::Map::is_empty) {
                continue;
            }
            let method = value.get("quant_method").or_else(|| value.get("quantization_method"));
            let (path, value) = match method {
                Some(Value::String(method)) => {
                    (format!("{field}.quant_method"), format!("{method:?}"))
                }
                _ if field == "quantization" => {
                    (field.to_owned(), format!("{} (MLX)", brief(value)))
                }
                _ => (field.to_owned(), brief(value)),
            };
            let supported = format!("the weights are quantized, and {REMEDY}");
            return Err(Error::unsupported(&config.name, path, value, supported));
        }
        match self.quantized() {
            Some((name, method)) => {
                let problem =
                    format!("belongs to a checkpoint that is quantized ({method}); {REMEDY}");
                Err(Error::tensor(self.first_file(), name, problem))
            }
            None => Ok(()),
        }
    }

    /// Returns the name of a tensor that only quantized checkpoints have, and the quantization method. Returns `None`
    /// if there is no such tensor.
    fn quantized(&self) -> Option<(&str, String)> {
        // The tensors of a checkpoint may have several of these suffixes, so the suffixes that identify the method most
        // precisely come first.
        for (end, method) in MARKERS {
            if let Some(name) = self.tensors.keys().find(|name| name.ends_with(end)) {
                return Some((name, method.to_owned()));
            }
        }
        self.tensors.iter().find_map(|(name, entry)| {
            let integer_or_short = !matches!(
                entry.dtype,
                Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::BOOL | Dtype::C64
            );
            let matrix = name.ends_with(".weight") && entry.shape.len() == 2;
            (matrix && integer_or_short).then(|| {
                let method =
                    format!("its dtype is {:?}; supported: F32, F16, BF16 and F64", entry.dtype);
                (name.as_str(), method)
            })
        })
    }
}
