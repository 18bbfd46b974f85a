//! Options of `vectile serve`.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use super::model::RunArgs;

/// Options of `vectile serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Model directory or Hugging Face Hub name; may be repeated. NAME is the model's name in requests; by
    /// default it is the last part of the directory, or the Hub name. KIND is embedder, reranker, sparse or
    /// multi-vector; by default it is detected from the model's files.
    #[arg(
        long = "model",
        required = true,
        value_name = "[NAME=][KIND:]DIR|HUB-ID",
        help_heading = "Model"
    )]
    pub models: Vec<String>,
    /// Address to listen on; 0.0.0.0 listens on all interfaces.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, short, default_value = "8080", value_name = "PORT")]
    pub port: u16,
    /// API key that requests must send as `Authorization: Bearer KEY`; may be repeated. The environment
    /// variable VECTILE_API_KEY adds one that is not visible in the process list.
    #[arg(long = "api-key", value_name = "KEY", help_heading = "Clients")]
    pub api_keys: Vec<String>,
    /// Origin whose pages may call the server, or * for all; may be repeated.
    #[arg(long = "cors-origin", value_name = "ORIGIN", help_heading = "Clients")]
    pub cors_origins: Vec<String>,
    /// Accept token ids in place of texts. They must come from the model's own tokenizer.
    #[arg(long, help_heading = "Clients")]
    pub accept_token_ids: bool,
    /// Maximum size of a request body in bytes.
    #[arg(long, value_name = "N", default_value = "33554432", help_heading = "Limits")]
    pub max_body_bytes: NonZeroUsize,
    /// Maximum number of texts in a request.
    #[arg(long, value_name = "N", default_value = "2048", help_heading = "Limits")]
    pub max_texts: NonZeroUsize,
    /// Maximum number of tokens of accepted, unanswered requests for each model. Requests beyond it get 429
    /// with a time to retry. A request counts for at most a quarter of it [default: 12 batches]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_queue_tokens: Option<NonZeroUsize>,
    /// Maximum number of open connections.
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub max_connections: NonZeroUsize,
    /// Time limit for the head of a request, and for an idle connection.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub header_timeout: Duration,
    /// Time limit for the body of a request.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub body_timeout: Duration,
    /// How long to finish accepted requests after Ctrl-C or SIGTERM; a second signal ends at once.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub drain: Duration,
    /// Task whose LoRA adapter is added to the weights, for a model that has some.
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub lora_task: Option<String>,
    /// Maximum number of tokens in a batch. It affects speed and memory, not vectors.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Before loading, time which matmul variants are fastest on this GPU, unless that is known already.
    #[arg(long, help_heading = "Model")]
    pub tune: bool,
    /// Print nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Parses a time in seconds, which may have a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
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
