//! `vectile embed`: embeds texts and writes the rows in the same order.

mod plan;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use vectile::stream::Job;
use vectile::{EmbedOptions, Error, OutputPrecision, TextModel, block_on, quantize};

use crate::cli::args::{EmbedArgs, OutputFormat};
use crate::cli::calibration;
use crate::cli::carried::CarriedSchema;
use crate::cli::failure::Failure;
use crate::cli::input::{TextSource, expand};
use crate::cli::interrupt::Interrupt;
use crate::cli::message::{note, say};
use crate::cli::model;
use crate::cli::output::{
    Block, Destination, Layout, Output, PartsDirectory, RowCounts, RunSettings, Vectors,
};
use crate::cli::progress::Progress;
use crate::cli::stream::{self, EmbeddedChunk, StreamContext, Totals};

pub fn run(args: &EmbedArgs) -> Result<(), Failure> {
    // All options and files are checked before the model is loaded.
    let inputs = expand(&args.input, &args.output)?;
    let (format, compression) = plan::output_format(args)?;
    let carry = plan::carried_columns(args, format, &inputs)?;
    let source = match inputs.is_empty() {
        true => TextSource::arguments(args.texts.clone()),
        false => TextSource::open_all(&inputs, &args.lines, carry.clone())?,
    };
    let interrupt = Interrupt::watch();
    let destination = Destination::find(&args.output, &source.regular_files())?;
    let carried = source.schema();
    let fields = match (&carried, format) {
        (CarriedSchema::Objects, OutputFormat::Jsonl | OutputFormat::Npy) => Vec::new(),
        (CarriedSchema::Objects, _) => plan::carried_fields(args, &inputs, &carry)?,
        _ => Vec::new(),
    };
    let layout = Layout {
        format,
        compression,
        precision: args.precision,
        dim: 0,
        vector_column: Arc::from(args.embedding_column.as_str()),
        carried,
        fields,
        ranges: None,
        part_rows: 0,
        quiet: args.model.quiet,
    };
    plan::check_columns(args, &layout)?;
    let parts = match &destination {
        Destination::File(path) if source.is_repeatable() => {
            Some(PartsDirectory::open(path, args.resume, &interrupt)?)
        }
        _ if args.resume => {
            return Err(Failure::user(
                "--resume needs --input FILE and --output FILE: runs that read stdin or do not write to a file \
                 cannot be resumed",
            ));
        }
        _ => None,
    };
    let work = Work { args, interrupt: &interrupt, source, destination, parts };
    let options = EmbedOptions { task: args.role, ..args.text.options() };
    match (args.sparse, args.multi_vector) {
        (true, _) => work.sparse(options, layout),
        (_, true) => work.multi_vector(options, layout),
        _ => work.dense(options, layout),
    }
}

/// A run of `vectile embed`: the texts to embed, and the destination of their vectors.
struct Work<'a> {
    args: &'a EmbedArgs,
    interrupt: &'a Interrupt,
    source: TextSource,
    destination: Destination,
    /// The directory of parts, if the run can be resumed.
    parts: Option<PartsDirectory>,
}

impl Work<'_> {
    fn dense(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let embedder = model::open(&args.model)?;
        // A call without texts only checks the options and returns the dimension.
        let dim = block_on(embedder.embed_with::<&str>(&[], &options))?.dim;
        let ranges = match &args.calibration {
            Some(_) if !args.precision.needs_ranges() => {
                let sentence = "--calibration: only --precision int8 and --precision uint8 use ranges; \
                                leave --calibration out";
                return Err(Failure::user(sentence));
            }
            Some(path) => Some(calibration::ranges(path, dim)?),
            None => None,
        };
        let layout = Layout { dim, ranges, ..layout };
        let (precision, adapter) =
            (embedder.precision().to_string(), embedder.adapter().to_string());
        let settings = RunSettings {
            known: self.settings(&layout, &precision, &adapter)?,
            model_digest: Box::new(|| Ok(embedder.fingerprint()?)),
        };
        let totals = self.run(
            &Job::new(&embedder, options),
            layout,
            settings,
            |row| match args.precision {
                // A value beyond the range of float16 is an error, because float16 would store it as infinity.
                OutputPrecision::Float16 => {
                    quantize(row, dim, OutputPrecision::Float16, None).map(|_| ())
                }
                _ => Ok(()),
            },
            |rows| {
                let mut values = Vec::with_capacity(rows.len() * dim);
                for row in rows {
                    match row {
                        Some(row) => values.extend(row),
                        None => values.resize(values.len() + dim, 0.0),
                    }
                }
                Vectors::Dense(dim, values)
            },
        )?;
        totals.report(totals.texts, embedder.max_seq_length(), args.model.quiet);
        model::report_rechecked(&embedder, &args.model);
        Ok(())
    }

    fn sparse(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let encoder = model::open_sparse(&args.model)?;
        // A call without texts only checks the options.
        block_on(encoder.encode_with::<&str>(&[], &options))?;
        let limit = encoder.max_seq_length_of(&options);
        let layout = Layout { dim: encoder.dimension(), ..layout };
        let (precision, adapter) = (encoder.precision().to_string(), encoder.adapter().to_string());
        let settings = RunSettings {
            known: self.settings(&layout, &precision, &adapter)?,
            model_digest: Box::new(|| Ok(encoder.fingerprint()?)),
        };
        let totals = self.run(
            &Job::new(&encoder, options),
            layout,
            settings,
            |_| Ok(()),
            |rows| Vectors::Sparse(rows.into_iter().map(Option::unwrap_or_default).collect()),
        )?;
        totals.report(totals.texts, limit, args.model.quiet);
        model::report_rechecked(&encoder, &args.model);
        Ok(())
    }

    fn multi_vector(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let encoder = model::open_multi_vector(&args.model)?;
        // A call without texts only checks the options.
        block_on(encoder.encode_with::<&str>(&[], &options))?;
        let layout = Layout { dim: encoder.dimension(), ..layout };
        let (precision, adapter) = (encoder.precision().to_string(), encoder.adapter().to_string());
        let settings = RunSettings {
            known: self.settings(&layout, &precision, &adapter)?,
            model_digest: Box::new(|| Ok(encoder.fingerprint()?)),
        };
        let totals = self.run(
            &Job::new(&encoder, options),
            layout,
            settings,
            |_| Ok(()),
            |rows| Vectors::Multi(rows.into_iter().map(Option::unwrap_or_default).collect()),
        )?;
        let limit = args.role.and_then(|side| encoder.max_seq_length(side));
        totals.report(totals.texts, limit, args.model.quiet);
        model::report_rechecked(&encoder, &args.model);
        Ok(())
    }

    /// Returns the settings that a later run must share with this run to resume it.
    fn settings(
        &self,
        layout: &Layout,
        precision: &str,
        adapter: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let args = self.args;
        let mut inputs = Vec::new();
        for path in self.source.regular_files() {
            let metadata = path.metadata().map_err(|e| Failure::file(path, "read", &e))?;
            let modified = metadata.modified().ok();
            let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            inputs.push(json!({
                "path": path.display().to_string(),
                "bytes": metadata.len(),
                "modified_ns": since.map(|since| since.as_nanos().to_string()),
            }));
        }
        let columns: Vec<String> =
            layout.carried_names().iter().map(|name| name.to_string()).collect();
        let fields: Vec<String> = layout
            .fields
            .iter()
            .map(|(name, field_type)| format!("{name}: {}", field_type.name()))
            .collect();
        let calibration = layout.ranges.as_ref().map(|ranges| {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            [bits(ranges.min()), bits(ranges.max())]
        });
        let known = json!({
            "vectile": env!("CARGO_PKG_VERSION"),
            "input": inputs,
            "input_format": args.lines.input_format.map(|format| format!("{format:?}")),
            "field": args.lines.field,
            "lossy": args.lines.lossy,
            "dialect": args.lines.dialect.first_option().map(|_| format!("{:?}", args.lines.dialect)),
            "on_error": format!("{:?}", args.on_error).to_lowercase(),
            "options": format!("{:?}", EmbedOptions { task: args.role, ..args.text.options() }),
            "lora_task": args.model.lora_task,
            "transformers_version": args.model.run.transformers_version.map(|version| version.to_string()),
            "precision": precision,
            "adapter": adapter,
            "sparse": args.sparse,
            "multi_vector": args.multi_vector,
            "output_format": format!("{:?}", layout.format).to_lowercase(),
            "output_precision": layout.precision.name(),
            "output_compression": layout.compression.map(|c| format!("{c:?}").to_lowercase()),
            "carry": format!("{:?}", args.carry),
            "carried": columns,
            "carried_fields": fields,
            "embedding_column": &*layout.vector_column,
            "calibration": calibration,
            "part_rows": self.part_rows(layout.dim),
        });
        match known {
            Value::Object(known) => Ok(known),
            _ => Ok(Map::new()),
        }
    }

    fn part_rows(&self, dim: usize) -> u64 {
        self.args.part_rows.map_or_else(|| Layout::default_part_rows(dim), |rows| rows.get() as u64)
    }

    /// Embeds all texts and completes the output. `check` returns an error for a row that the output cannot hold.
    /// `gather` converts the list of a chunk's rows to one [`Vectors`].
    fn run<'s, M: TextModel>(
        mut self,
        job: &Job<'_, M>,
        layout: Layout,
        settings: RunSettings<'s>,
        check: impl Fn(&M::Row) -> Result<(), Error> + Sync,
        gather: impl Fn(Vec<Option<M::Row>>) -> Vectors + Sync,
    ) -> Result<Totals, Failure> {
        let args = self.args;
        let layout = Layout { part_rows: self.part_rows(layout.dim), ..layout };
        // A NumPy array cannot hold null, so messages about a .npy output do not suggest `--on-error`.
        let on_error = (layout.format != OutputFormat::Npy).then_some(args.on_error);
        let quiet = args.model.quiet;
        // Rows that are printed on the terminal would break up the progress bar, so in this case no bar is drawn.
        let rows_on_terminal = args.output == Path::new("-") && std::io::stdout().is_terminal();
        let mut progress = Progress::new(self.source.total_bytes(), !quiet && !rows_on_terminal);
        let mut before = RowCounts::default();
        let mut output = match self.parts.take() {
            Some(directory) => {
                let parts = directory.begin(layout, settings)?;
                before = parts.counts();
                if before.rows > 0 {
                    self.source.skip(before.rows)?;
                    progress.start_at(self.source.position());
                    if !quiet {
                        let rows = before.rows;
                        say(format_args!("the interrupted run is resumed after {rows} rows"));
                    }
                }
                Output::Parts(Box::new(parts))
            }
            None => Output::without_parts(self.destination, &args.output, layout, self.interrupt)?,
        };
        let mut first = before.rows;
        let interrupt = self.interrupt;
        let context = StreamContext { interrupt, progress, on_error, quiet };
        let ran = stream::for_each_checked_chunk(job, self.source, context, check, |embedded| {
            let EmbeddedChunk { chunk, rows, truncated, retried } = embedded;
            let block = Block {
                first,
                valid: rows.iter().map(Option::is_some).collect(),
                truncated,
                weights: chunk.weights,
                vectors: gather(rows),
                carried: chunk.carried,
                retried,
            };
            first += block.len() as u64;
            output.write(&block)
        });
        let resumable = output.resumable().map(|(rows, directory)| (rows, directory.to_owned()));
        let mut totals = ran.map_err(|failure| with_resume_advice(failure, &resumable, quiet))?;
        totals.texts += before.rows;
        totals.truncated += before.truncated;
        totals.retried += before.retried;
        totals.failed += before.failed;
        let finished = interrupt.during_last_step(|| output.finish(interrupt));
        finished.map_err(|failure| with_resume_advice(failure, &resumable, quiet))?;
        Ok(totals)
    }
}

/// Returns `failure`. If the run can be resumed, its message also says how to resume it.
fn with_resume_advice(
    failure: Failure,
    resumable: &Option<(u64, PathBuf)>,
    quiet: bool,
) -> Failure {
    let Some((rows, directory)) = resumable else { return failure };
    let directory = directory.display();
    let advice = format!(
        "{rows} rows are stored in {directory}; run the same command with --resume to \
         embed the remaining rows"
    );
    match failure {
        Failure::Interrupted(problem) => Failure::Interrupted(format!("{problem}; {advice}")),
        other if quiet => other,
        other => {
            note(format_args!("{advice}"));
            other
        }
    }
}
