//! Options of `vectile serve`.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use super::model::RunArgs;

/// Options of `vectile serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Serve the model in this directory or with this Hugging Face Hub name. This option may be given several
    /// times.
    ///
    /// NAME is the model's name in requests. By default NAME is the last part of the directory's path, or the Hub name.
    /// KIND is embedder, reranker, sparse or multi-vector. By default KIND is detected from the model's files.
    #[arg(
        long = "model",
        required = true,
        value_name = "[NAME=][KIND:]DIR|HUB-ID",
        help_heading = "Model"
    )]
    pub models: Vec<String>,
    /// Listen on this address. 0.0.0.0 means all interfaces.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: String,
    /// Listen on this port. With 0, the system picks a free port.
    #[arg(long, short, default_value = "8080", value_name = "PORT")]
    pub port: u16,
    /// Require this API key, as `Authorization: Bearer KEY`. This option may be given several times.
    ///
    /// The environment variable VECTILE_API_KEY also sets a key, which is not visible in the process list.
    #[arg(long = "api-key", value_name = "KEY", help_heading = "Clients")]
    pub api_keys: Vec<String>,
    /// Allow web pages of this origin to call the server. `*` allows all origins. This option may be given
    /// several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN", help_heading = "Clients")]
    pub cors_origins: Vec<String>,
    /// Accept token ids in place of texts. The ids must come from the model's own tokenizer.
    #[arg(long, help_heading = "Clients")]
    pub accept_token_ids: bool,
    /// Ignore unknown fields of requests in every API. The APIs of text-embeddings-inference and Ollama always ignore
    /// unknown fields, as the original servers do. By default, the other APIs refuse unknown fields.
    #[arg(long, help_heading = "Clients")]
    pub ignore_unknown_fields: bool,
    /// Replace invalid characters in a request by U+FFFD instead of refusing the request. Invalid characters are
    /// unpaired surrogates in JSON and bytes that are not UTF-8.
    #[arg(long, help_heading = "Clients")]
    pub lossy: bool,
    /// Refuse a request whose body is longer than N bytes.
    #[arg(long, value_name = "N", default_value = "33554432", help_heading = "Limits")]
    pub max_body_bytes: NonZeroUsize,
    /// Refuse a request of more than N texts.
    #[arg(long, value_name = "N", default_value = "2048", help_heading = "Limits")]
    pub max_texts: NonZeroUsize,
    /// Accept at most N tokens of unanswered requests for each model [default: 12 batches]
    ///
    /// A request that exceeds this limit gets status 429 and the time after which to retry. A long request counts as at
    /// most a quarter of N, so that the server can accept it.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_queue_tokens: Option<NonZeroUsize>,
    /// Keep at most N connections open.
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub max_connections: NonZeroUsize,
    /// Wait at most this long for the headers of a request. The same limit applies to the wait for the next request on
    /// an idle connection.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub header_timeout: Duration,
    /// Wait at most this long for the body of a request, and for a client that takes no part of its response.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub body_timeout: Duration,
    /// Wait at most this long for accepted requests after Ctrl-C or SIGTERM. A second signal ends the server at once.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub drain: Duration,
    /// Add the LoRA of this task to the weights, for models that have one LoRA per task.
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub lora_task: Option<String>,
    /// Put at most N tokens into a batch. The limit affects speed and memory, but not the vectors.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Find the fastest matmul variants for the models on this GPU before loading, unless this was done before.
    #[arg(long, help_heading = "Model")]
    pub tune: bool,
    /// Compute at least one in N rows of each batch a second time, and answer 500 if one differs.
    ///
    /// The adapter computes these rows again in another place of a batch, and they must be bit-identical. If the
    /// adapter is not the CPU, the CPU computes them too, and needs memory for a second copy of each model. N is 64
    /// without a value; 1 checks every row. When the server stops, its log has the number of checked rows.
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "64",
        help_heading = "Model"
    )]
    pub paranoid: Option<NonZeroUsize>,
    /// Print nothing on stderr except errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Parses a time in seconds, which may have a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "expected a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for wrong in ["", "x", "-1", "NaN", "inf"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
