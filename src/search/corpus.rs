//! [`CorpusSearch`]: exact search on a model's adapter, over rows that arrive in blocks.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::best::{Best, SearchHit};
use super::block::{Queries, fault};
use super::queries::{check_rows, prepare};
use crate::dtype::Storage;
use crate::embedder::{Embedder, Embeddings, TextModel, check_widths};
use crate::error::Error;
use crate::kernels::pad_rows;
use crate::similarity::SimilarityFunction;

/// The maximum number of queries in a group. A block is compared with one group of queries at a time.
const QUERIES_AT_ONCE: usize = 1024;

/// The options of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchOptions {
    /// The number of hits to return for each query. The default is 10, as in sentence-transformers.
    pub top_k: usize,
    /// The function that compares vectors; `None` selects the model's own function.
    pub similarity: Option<SimilarityFunction>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions { top_k: 10, similarity: None }
    }
}

/// Consecutive rows of a corpus.
#[derive(Debug, Clone, Copy)]
pub enum CorpusRows<'a> {
    /// The values as float32.
    F32(&'a [f32]),
    /// The values as float16, which are widened to f32 where they are compared.
    F16(&'a [f16]),
}

impl<'a> CorpusRows<'a> {
    fn values(&self) -> usize {
        match self {
            CorpusRows::F32(values) => values.len(),
            CorpusRows::F16(values) => values.len(),
        }
    }

    /// Returns at most `rows` rows, starting at row `start`.
    fn part(&self, dim: usize, start: usize, rows: usize) -> CorpusRows<'a> {
        let part = start * dim..((start + rows) * dim).min(self.values());
        match self {
            CorpusRows::F32(values) => CorpusRows::F32(&values[part]),
            CorpusRows::F16(values) => CorpusRows::F16(&values[part]),
        }
    }

    fn storage(&self) -> Storage {
        match self {
            CorpusRows::F32(_) => Storage::F32,
            // Every adapter can read packed f16, with or without f16 in shaders.
            CorpusRows::F16(_) => Storage::PackedF16,
        }
    }

    /// Returns the bytes of the rows in their storage type, each row padded to a multiple of four values.
    fn bytes(&self, dim: usize) -> Vec<u8> {
        match self {
            CorpusRows::F32(values) if dim.is_multiple_of(4) => {
                bytemuck::cast_slice(values).to_vec()
            }
            CorpusRows::F32(values) => bytemuck::cast_slice(&pad_rows(values, dim)).to_vec(),
            CorpusRows::F16(values) if dim.is_multiple_of(4) => {
                bytemuck::cast_slice(values.reinterpret_cast()).to_vec()
            }
            CorpusRows::F16(values) => {
                let padded = dim.next_multiple_of(4);
                let mut bytes = Vec::with_capacity(values.len() / dim * padded * 2);
                for row in values.chunks_exact(dim) {
                    bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
                    bytes.resize(bytes.len() + (padded - dim) * 2, 0);
                }
                bytes
            }
        }
    }

    fn check(&self, dim: usize, first: usize) -> Result<(), Error> {
        match self {
            CorpusRows::F32(values) => check_rows("corpus", values, dim, first),
            // The sum of squares of f16 values cannot exceed the range of f32, so only infinite values and NaN are
            // refused.
            CorpusRows::F16(values) => {
                // The fold has no early exit, so the compiler turns this loop over a row into vector instructions.
                let wrong = |row: &[f16]| row.iter().fold(false, |any, v| any | !v.is_finite());
                let Some(at) = values.chunks_exact(dim).position(wrong) else { return Ok(()) };
                let row = &values[at * dim..(at + 1) * dim];
                let value = row.iter().find(|value| !value.is_finite()).unwrap_or(&row[0]);
                let row = first + at;
                let problem = format!("row {row} holds {value}; every value must be finite");
                Err(Error::option("corpus", problem))
            }
        }
    }
}

/// A search over a corpus whose rows arrive in blocks, so that the corpus need not fit into memory.
///
/// [`Embedder::search`] starts a search. The hits do not depend on how the rows are divided into blocks.
#[derive(Debug)]
pub struct CorpusSearch<'a> {
    embedder: &'a Embedder,
    dim: usize,
    top_k: usize,
    /// Groups of queries. All queries of a group are compared with a block in one graph.
    groups: Vec<Queries>,
    best: Vec<Best>,
    /// The number of rows that were added so far.
    rows: usize,
    /// The storage types of rows for which the kernels have passed their test.
    tested: Vec<Storage>,
    /// The maximum number of rows in a block. This number is lowered if a block does not fit into memory.
    rows_that_fit: usize,
}

impl Embedder {
    /// Starts a search for the rows of a corpus that are nearest to `queries`, on the adapter of this model.
    ///
    /// ```
    /// use vectile::{CorpusRows, Embedder, ModelFiles, SearchOptions, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_mean_norm";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let queries = block_on(embedder.embed_query(&["Where is the cat?"]))?;
    /// let mut search = embedder.search(&queries, &SearchOptions::default())?;
    /// for texts in [["A cat sat.", "The dog ran."], ["It rains.", "Where is the cat?"]] {
    ///     let rows = block_on(embedder.embed_document(&texts))?;
    ///     block_on(search.add(CorpusRows::F32(&rows.values)))?;
    /// }
    /// assert_eq!(search.hits()[0][0].index, 3);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::Option`] for a query with a value that is not finite, or whose sum of squares exceeds the range
    /// of f32.
    pub fn search(
        &self,
        queries: &Embeddings,
        options: &SearchOptions,
    ) -> Result<CorpusSearch<'_>, Error> {
        let similarity = options.similarity.unwrap_or(self.similarity_function());
        let (dim, top_k) = (queries.dim.max(1), options.top_k);
        let prepared = prepare(queries, similarity)?;
        let groups = prepared.chunks(QUERIES_AT_ONCE * dim);
        let groups =
            groups.map(|values| Queries { dim, values: values.to_vec(), similarity, top_k });
        Ok(CorpusSearch {
            embedder: self,
            dim,
            top_k,
            groups: groups.collect(),
            best: vec![Best::new(top_k); queries.len()],
            rows: 0,
            tested: Vec::new(),
            rows_that_fit: usize::MAX,
        })
    }

    /// Returns for each query the nearest rows of a corpus, best first, like sentence-transformers' `semantic_search`.
    /// The search runs on the adapter of this model. Among equal scores, the earlier row comes first.
    ///
    /// ```
    /// use vectile::{Embedder, ModelFiles, SearchOptions, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_mean_norm";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let queries = block_on(embedder.embed_query(&["Where is the cat?"]))?;
    /// let corpus = block_on(embedder.embed_document(&["The dog ran.", "Where is the cat?"]))?;
    /// let options = SearchOptions { top_k: 1, ..SearchOptions::default() };
    /// let hits = block_on(embedder.semantic_search(&queries, &corpus, &options))?;
    /// assert_eq!(hits[0][0].index, 1);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::Option`] for rows of different widths, and the errors of [`Embedder::search`] and
    /// [`CorpusSearch::add`].
    pub async fn semantic_search(
        &self,
        queries: &Embeddings,
        corpus: &Embeddings,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<SearchHit>>, Error> {
        check_widths(queries, corpus)?;
        let mut search = self.search(queries, options)?;
        search.add(CorpusRows::F32(&corpus.values)).await?;
        Ok(search.hits())
    }
}

impl CorpusSearch<'_> {
    /// Compares the next rows of the corpus with all queries. Large numbers of rows are divided into blocks of some
    /// megabytes.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if the values are not whole rows of the queries' width. Returns [`Error::Option`] for
    /// a row that holds a value that is not finite, or whose sum of squares exceeds the range of f32. This error names
    /// the row, counted from 0 over all blocks. Returns [`Error::DeviceFault`], [`Error::DeviceLost`] and
    /// [`Error::OutOfMemory`] for errors of the device. After an error, the search must not be continued.
    pub async fn add(&mut self, rows: CorpusRows<'_>) -> Result<(), Error> {
        let dim = self.dim;
        let count = rows.values() / dim;
        if !rows.values().is_multiple_of(dim) {
            let problem = format!(
                "the corpus has {} values, which cannot be divided into rows of {dim} values, the \
                 width of the queries",
                rows.values()
            );
            return Err(Error::option("corpus", problem));
        }
        rows.check(dim, self.rows)?;
        if self.top_k > 0 && count > 0 {
            for group in 0..self.groups.len() {
                self.compare(group, rows, count).await?;
            }
        }
        self.rows += count;
        Ok(())
    }

    /// Returns the number of rows that were added so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the best hits of each query so far, best first. Among equal scores, the earlier row comes first.
    pub fn hits(&self) -> Vec<Vec<SearchHit>> {
        self.best.iter().map(Best::hits).collect()
    }

    /// Compares rows with a group of queries, block by block.
    async fn compare(
        &mut self,
        group: usize,
        rows: CorpusRows<'_>,
        count: usize,
    ) -> Result<(), Error> {
        let queries = &self.groups[group];
        let first_query = group * QUERIES_AT_ONCE;
        let best = &mut self.best[first_query..first_query + queries.len()];
        let runner = self.embedder.runner();
        let storage = rows.storage();
        let limits = runner.search_limits().await;
        let block_rows = queries.block_rows(storage, limits.largest_buffer, limits.max_flops);
        let mut start = 0;
        while start < count {
            let many = block_rows.min(self.rows_that_fit).min(count - start);
            let part = rows.part(self.dim, start, many);
            let test = !self.tested.contains(&storage);
            let compare = |builder: &mut _| queries.compare(builder, part.bytes(self.dim), many);
            let (output, outcome) = match runner.run_search(storage, test, compare).await {
                Err(Error::OutOfMemory { .. }) if many > 1 => {
                    tracing::warn!(
                        rows = many,
                        "the adapter ran out of memory, so the search uses smaller blocks of the \
                         corpus"
                    );
                    self.rows_that_fit = many / 2;
                    continue;
                }
                ran => ran?,
            };
            if test {
                self.tested.push(storage);
            }
            let place = (self.rows + start, many);
            queries
                .take(&output, &outcome.output, place, best)
                .map_err(|problem| fault(&runner.adapter().name, problem))?;
            start += many;
        }
        Ok(())
    }
}
