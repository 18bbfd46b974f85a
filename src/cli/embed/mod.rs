//! `vectile embed`: texts in, rows out, in their order.

mod plan;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use vectile::stream::{Dense, Encode, Sparse, TokenVectors};
use vectile::{EmbedOptions, Error, OutputPrecision, block_on, quantize};

use crate::cli::args::{EmbedArgs, OutputFormat};
use crate::cli::calibration;
use crate::cli::carried::Shape;
use crate::cli::failure::Failure;
use crate::cli::input::{Source, expand};
use crate::cli::interrupt::Interrupt;
use crate::cli::model;
use crate::cli::output::{Block, Counts, Destination, Layout, Output, Place, Settings, Vectors};
use crate::cli::progress::Progress;
use crate::cli::say;
use crate::cli::stream::{self, Run, Taken, Totals};

pub fn run(args: &EmbedArgs) -> Result<(), Failure> {
    // Whatever can be refused is refused before the model is loaded.
    let inputs = expand(&args.input, &args.output)?;
    let (format, compression) = plan::format(args)?;
    let carry = plan::carry(args, format, &inputs)?;
    let source = match inputs.is_empty() {
        true => Source::arguments(args.texts.clone()),
        false => Source::open_all(&inputs, &args.lines, carry.clone())?,
    };
    let interrupt = Interrupt::watch();
    let destination = Destination::find(&args.output, &source.files())?;
    let shape = source.shape();
    let fields = match (&shape, format) {
        (Shape::Objects, OutputFormat::Jsonl | OutputFormat::Npy) | (Shape::None, _) => Vec::new(),
        (Shape::Objects, _) => plan::fields(args, &inputs, &carry)?,
        _ => Vec::new(),
    };
    let layout = Layout {
        format,
        compression,
        precision: args.precision,
        dim: 0,
        field: Arc::from(args.embedding_column.as_str()),
        shape,
        fields,
        ranges: None,
        part_rows: 0,
        quiet: args.model.quiet,
    };
    plan::check_columns(args, &layout)?;
    let place = match &destination {
        Destination::File(path) if source.is_repeatable() => {
            Some(Place::open(path, args.resume, &interrupt)?)
        }
        _ if args.resume => {
            return Err(Failure::user(
                "--resume: only what goes from files into a file can be gone on with; give --input FILE \
                 and --output FILE",
            ));
        }
        _ => None,
    };
    let job = Job { args, interrupt: &interrupt, source, destination, place };
    let options = EmbedOptions { task: args.side, ..args.text.options() };
    match (args.sparse, args.multi_vector) {
        (true, _) => job.sparse(options, layout),
        (_, true) => job.multi_vector(options, layout),
        _ => job.dense(options, layout),
    }
}

/// What is embedded, and where it goes.
struct Job<'a> {
    args: &'a EmbedArgs,
    interrupt: &'a Interrupt,
    source: Source,
    destination: Destination,
    /// Where parts are kept, if they are.
    place: Option<Place>,
}

impl Job<'_> {
    fn dense(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let embedder = model::open(&args.model)?;
        // No text: only the options are checked, and the width of a row is known.
        let dim = block_on(embedder.embed_with::<&str>(&[], &options))?.dim;
        let ranges = match &args.calibration {
            Some(_) if !args.precision.needs_ranges() => {
                let sentence = "--calibration: only int8 and uint8 have ranges; leave it out";
                return Err(Failure::user(sentence));
            }
            Some(path) => Some(calibration::ranges(path, dim)?),
            None => None,
        };
        let layout = Layout { dim, ranges, ..layout };
        let (precision, adapter) =
            (embedder.precision().to_string(), embedder.adapter().to_string());
        let settings = Settings {
            known: self.settings(&layout, &precision, &adapter)?,
            model: Box::new(|| Ok(embedder.fingerprint()?)),
        };
        let totals = self.run(
            &Dense { embedder: &embedder, options },
            layout,
            settings,
            |row| match args.precision {
                // What is beyond it is an error, and not infinity.
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
        totals.report(embedder.max_seq_length(), args.model.quiet);
        Ok(())
    }

    fn sparse(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let encoder = model::open_sparse(&args.model)?;
        // No text: only the options are checked.
        block_on(encoder.encode_with::<&str>(&[], &options))?;
        let limit = encoder.max_seq_length_of(&options);
        let layout = Layout { dim: encoder.dimension(), ..layout };
        let (precision, adapter) = (encoder.precision().to_string(), encoder.adapter().to_string());
        let settings = Settings {
            known: self.settings(&layout, &precision, &adapter)?,
            model: Box::new(|| Ok(encoder.fingerprint()?)),
        };
        let totals = self.run(
            &Sparse { encoder: &encoder, options },
            layout,
            settings,
            |_| Ok(()),
            |rows| Vectors::Sparse(rows.into_iter().map(Option::unwrap_or_default).collect()),
        )?;
        totals.report(limit, args.model.quiet);
        Ok(())
    }

    fn multi_vector(self, options: EmbedOptions, layout: Layout) -> Result<(), Failure> {
        let args = self.args;
        let encoder = model::open_multi_vector(&args.model)?;
        // No text: only the options are checked.
        block_on(encoder.encode_with::<&str>(&[], &options))?;
        let layout = Layout { dim: encoder.dimension(), ..layout };
        let (precision, adapter) = (encoder.precision().to_string(), encoder.adapter().to_string());
        let settings = Settings {
            known: self.settings(&layout, &precision, &adapter)?,
            model: Box::new(|| Ok(encoder.fingerprint()?)),
        };
        let totals = self.run(
            &TokenVectors { encoder: &encoder, options },
            layout,
            settings,
            |_| Ok(()),
            |rows| Vectors::Multi(rows.into_iter().map(Option::unwrap_or_default).collect()),
        )?;
        let limit = args.side.and_then(|side| encoder.max_seq_length(side));
        totals.report(limit, args.model.quiet);
        Ok(())
    }

    /// What a run that goes on with this one must have in common with it.
    fn settings(
        &self,
        layout: &Layout,
        precision: &str,
        adapter: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let args = self.args;
        let mut inputs = Vec::new();
        for path in self.source.files() {
            let about = path.metadata().map_err(|e| Failure::file(path, "read", &e))?;
            let modified = about.modified().ok();
            let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            inputs.push(json!({
                "path": path.display().to_string(),
                "bytes": about.len(),
                "modified_ns": since.map(|since| since.as_nanos().to_string()),
            }));
        }
        let columns: Vec<String> = layout.columns().iter().map(|name| name.to_string()).collect();
        let fields: Vec<String> =
            layout.fields.iter().map(|(name, kind)| format!("{name}: {}", kind.name())).collect();
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
            "on_error": format!("{:?}", args.on_error).to_lowercase(),
            "options": format!("{:?}", EmbedOptions { task: args.side, ..args.text.options() }),
            "lora_task": args.model.lora_task,
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
            "embedding_column": &*layout.field,
            "calibration": calibration,
            "part_rows": self.part_rows(layout.dim),
        });
        match known {
            Value::Object(known) => Ok(known),
            _ => Ok(Map::new()),
        }
    }

    fn part_rows(&self, dim: usize) -> u64 {
        self.args.part_rows.map_or_else(|| Layout::part_rows(dim), |rows| rows.get() as u64)
    }

    fn run<'s, M: Encode>(
        mut self,
        model: &M,
        layout: Layout,
        settings: Settings<'s>,
        check: impl Fn(&M::Row) -> Result<(), Error> + Sync,
        gather: impl Fn(Vec<Option<M::Row>>) -> Vectors + Sync,
    ) -> Result<Totals, Failure> {
        let args = self.args;
        let layout = Layout { part_rows: self.part_rows(layout.dim), ..layout };
        let quiet = args.model.quiet;
        // Rows on the terminal would break the bar apart.
        let rows_on_terminal = args.output == Path::new("-") && std::io::stdout().is_terminal();
        let mut progress = Progress::new(self.source.total_bytes(), !quiet && !rows_on_terminal);
        let mut before = Counts::default();
        let mut output = match self.place.take() {
            Some(place) => {
                let parts = place.begin(layout, settings)?;
                before = parts.counts();
                if before.rows > 0 {
                    self.source.skip(before.rows)?;
                    progress.start_at(self.source.position());
                    if !quiet {
                        let rows = before.rows;
                        say(format_args!("going on after {rows} rows"));
                    }
                }
                Output::Parts(Box::new(parts))
            }
            None => Output::at_once(self.destination, &args.output, layout, self.interrupt)?,
        };
        let mut first = before.rows;
        let run = Run { interrupt: self.interrupt, progress, on_error: args.on_error, quiet };
        let ran = stream::each_checked(model, self.source, run, check, |taken| {
            let Taken { chunk, rows, truncated, retried } = taken;
            let about = chunk.about;
            let block = Block {
                first,
                valid: rows.iter().map(Option::is_some).collect(),
                truncated,
                weights: about.weights,
                vectors: gather(rows),
                carried: about.carried,
                retried,
            };
            first += block.len() as u64;
            output.write(&block)
        });
        let kept = output.kept().map(|(rows, directory)| (rows, directory.to_owned()));
        let mut totals = ran.map_err(|failure| how_to_go_on(failure, &kept))?;
        totals.texts += before.rows;
        totals.truncated += before.truncated;
        totals.retried += before.retried;
        totals.failed += before.failed;
        let finished = self.interrupt.ending(|| output.finish(self.interrupt));
        finished.map_err(|failure| how_to_go_on(failure, &kept))?;
        Ok(totals)
    }
}

/// Says of a run that ended early what it leaves behind.
fn how_to_go_on(failure: Failure, kept: &Option<(u64, PathBuf)>) -> Failure {
    let Some((rows, directory)) = kept else { return failure };
    let directory = directory.display();
    let how = format!(
        "{rows} rows are kept in {directory}: give the same command with --resume to go on after them"
    );
    match failure {
        Failure::Interrupted(done) => Failure::Interrupted(format!("{done}; {how}")),
        other => {
            say(format_args!("note: {how}"));
            other
        }
    }
}
