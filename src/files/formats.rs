//! Recognises weights in formats other than safetensors, so that the error about a missing safetensors file can name
//! the format.

use crate::files::ModelFiles;

/// A file format of weights that Vectile does not read.
struct Format {
    /// The suffixes of file names in this format.
    ends: &'static [&'static str],
    /// The sentence that names the format and tells the user what to do.
    advice: &'static str,
}

/// All formats, in the order in which they are reported. Formats that can be converted to safetensors
/// without loss come first.
const FORMATS: [Format; 10] = [
    Format {
        ends: &["pytorch_model.bin", "pytorch_model.bin.index.json"],
        advice: "is a Python pickle, which can run code when opened; save the model with `safe_serialization=True`",
    },
    Format {
        ends: &["adapter_model.safetensors", "adapter_model.bin"],
        advice: "is a PEFT adapter without its base model; merge the adapter into the base model first \
                 (`model.merge_and_unload().save_pretrained(dir)`)",
    },
    Format {
        ends: &[".safetensors"],
        advice: "has another name than Vectile expects; rename it to model.safetensors, or for a \
                 shard add model.safetensors.index.json",
    },
    Format {
        ends: &["tf_model.h5", "tf_model.h5.index.json", "saved_model.pb"],
        advice: "is a TensorFlow checkpoint; load it in transformers 4 with `from_tf=True` and save it again",
    },
    Format {
        ends: &["flax_model.msgpack", "flax_model.msgpack.index.json"],
        advice: "is a Flax checkpoint; load it in transformers 4 with `from_flax=True` and save it again",
    },
    Format {
        ends: &[".onnx"],
        advice: "is an ONNX graph, which Vectile does not run; use the model that it was exported from",
    },
    Format {
        ends: &["openvino_model.xml", "openvino_model.bin"],
        advice: "is an OpenVINO graph, which Vectile does not run; use the model that it was exported from",
    },
    Format {
        ends: &[".gguf"],
        advice: "is a GGUF file for llama.cpp, which Vectile does not read; use the model that it was converted from",
    },
    Format {
        ends: &[".npz"],
        advice: "is an archive of NumPy arrays (MLX); use the model that it was converted from",
    },
    Format {
        ends: &[".bin", ".pt", ".pth", ".ckpt"],
        advice: "is a Python pickle, which can run code when opened; save the model with `safe_serialization=True`",
    },
];

/// The directories that are searched for weights: the model's own directory, and the subdirectories in which
/// sentence-transformers stores exported graphs.
const SUBDIRECTORIES: [&str; 3] = ["", "onnx/", "openvino/"];

impl ModelFiles {
    /// Returns a sentence that names weights in another format below `prefix` and tells the user what to do with these
    /// files. Returns `None` if there are no such weights, or if there is a model.safetensors.
    pub(crate) fn other_weights(&self, prefix: &str) -> Option<String> {
        let names: Vec<String> = SUBDIRECTORIES
            .iter()
            .flat_map(|directory| {
                let names = self.names(&format!("{prefix}{directory}"));
                names.into_iter().map(move |name| format!("{prefix}{directory}{name}"))
            })
            .collect();
        if names.contains(&format!("{prefix}model.safetensors")) {
            return None;
        }
        FORMATS.iter().find_map(|format| {
            let name =
                names.iter().find(|name| format.ends.iter().any(|end| name.ends_with(end)))?;
            Some(format!("{name} {}", format.advice))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_other_formats_are_named_with_advice() {
        for (names, expected) in [
            (&["pytorch_model.bin"][..], "pytorch_model.bin is a Python pickle"),
            (&["onnx/model.onnx", "pytorch_model.bin"], "pytorch_model.bin is a Python pickle"),
            (&["onnx/model_quantized.onnx"], "onnx/model_quantized.onnx is an ONNX graph"),
            (&["model.onnx", "model.onnx_data"], "model.onnx is an ONNX graph"),
            (&["openvino/openvino_model.xml"], "openvino/openvino_model.xml is an OpenVINO graph"),
            (&["nomic-embed-text-v1.5.Q4_K_M.gguf"], "Q4_K_M.gguf is a GGUF file"),
            (&["tf_model.h5"], "tf_model.h5 is a TensorFlow checkpoint"),
            (&["flax_model.msgpack"], "flax_model.msgpack is a Flax checkpoint"),
            (&["model.fp16.safetensors"], "model.fp16.safetensors has another name"),
            (&["adapter_model.safetensors"], "adapter_model.safetensors is a PEFT adapter"),
            (&["weights.npz"], "weights.npz is an archive of NumPy arrays"),
            (&["weights.pt"], "weights.pt is a Python pickle"),
        ] {
            let entries = names.iter().map(|name| ((*name).to_owned(), vec![]));
            let files = ModelFiles::from_bytes(entries).unwrap();
            let advice = files.other_weights("").unwrap();
            assert!(advice.contains(expected) && advice.contains("; "), "{names:?}: {advice}");
        }
        for names in [&["config.json"][..], &["model.safetensors", "onnx/model.onnx"]] {
            let entries = names.iter().map(|name| ((*name).to_owned(), vec![]));
            let files = ModelFiles::from_bytes(entries).unwrap();
            assert_eq!(files.other_weights(""), None, "{names:?}");
        }
    }
}
