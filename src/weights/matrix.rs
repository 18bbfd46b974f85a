//! Loads checkpoint matrices `[columns, inner]` as `[inner, columns]`, split into blocks of columns that a shader can
//! bind.
//!
//! Each block is repacked on the host and then uploaded, so host memory never holds a whole matrix.

use std::ops::Range;

use crate::convert::Loss;
use crate::error::Error;
use crate::kernels::matmul::{Block, Linear, stride4};
use crate::weights::axis::{Axis, Columns, Gate};
use crate::weights::loader::{Loader, PIECE, stored_rows};
use crate::weights::lora::LoraPair;
use crate::weights::{MatrixShape, TensorEntry};

/// The maximum size of a block in bytes. The limit bounds the host memory for repacking, even if an adapter could bind
/// more. With a lower limit, a matmul on a short text would leave a part of the GPU idle.
const MAX_BLOCK_BYTES: u64 = 128 << 20;
/// The number of cells (groups of four columns) in a matmul tile. A block that is at least as wide as a tile consists
/// of whole tiles.
const TILE_CELLS: usize = 32;
/// The number of checkpoint rows that are written as columns at a time. The values of these rows in one output row fill
/// one or two cache lines.
const GROUP: usize = 32;

/// The rows of a checkpoint matrix that become columns of a layer.
struct LayerPart {
    /// The tensor name of the matrix.
    weight: String,
    bias: Option<String>,
    /// The ranges of rows that become columns, in order.
    rows: Vec<Range<usize>>,
    /// The number of rows in the whole matrix.
    matrix_rows: usize,
    columns: Columns,
    /// The part's first column in the padded layout; `None` if the part follows the columns of the previous part.
    first: Option<usize>,
}

/// A part of a layer, with its tensor and its position in the layer.
struct PlacedPart<'a> {
    part: &'a LayerPart,
    name: String,
    entry: &'a TensorEntry,
    pair: Option<LoraPair>,
    /// The part's first column in the padded layout.
    first: usize,
}

impl Loader<'_, '_> {
    /// Loads a linear layer like [`Loader::joined`], from one or more concatenated checkpoint matrices of the same
    /// shape. `columns` is the layout of each matrix.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::joined`].
    pub fn linear(
        &mut self,
        parts: &[&str],
        bias: bool,
        inner: Axis,
        columns: impl Into<Columns>,
    ) -> Result<Linear, Error> {
        let columns = columns.into();
        let parts: Vec<(&str, Columns)> = parts.iter().map(|base| (*base, columns)).collect();
        self.joined(&parts, bias, inner)
    }

    /// Loads a linear layer from one or more concatenated checkpoint matrices `[columns, inner]`. `parts` lists for
    /// each matrix its name without `.weight` or `.bias`, and its layout.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values. Returns [`Error::Adapter`] if
    /// even eight columns are larger than a shader can bind.
    pub fn joined(
        &mut self,
        parts: &[(&str, Columns)],
        bias: bool,
        inner: Axis,
    ) -> Result<Linear, Error> {
        let part = |(base, columns): &(&str, Columns)| LayerPart {
            weight: format!("{base}.weight"),
            bias: bias.then(|| format!("{base}.bias")),
            rows: std::iter::once(0..columns.axis.len()).collect(),
            matrix_rows: columns.axis.len(),
            columns: *columns,
            first: None,
        };
        self.layer(&parts.iter().map(part).collect::<Vec<_>>(), inner)
    }

    /// Loads a gate projection and an up projection, each with `columns` columns, from one checkpoint matrix that holds
    /// both or from two matrices. The cells of the two projections are interleaved.
    /// [`Epilogue::Gated`](crate::kernels::matmul::Epilogue::Gated) combines the two results into `columns` columns.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::joined`].
    pub fn gated(
        &mut self,
        parts: &[&str],
        gate: Gate,
        bias: bool,
        inner: Axis,
        columns: Axis,
    ) -> Result<Linear, Error> {
        let count = columns.len();
        let half = |half: usize| {
            let base = parts[half.min(parts.len() - 1)];
            let first = if parts.len() == 1 { half * count } else { 0 };
            LayerPart {
                weight: format!("{base}.weight"),
                bias: bias.then(|| format!("{base}.bias")),
                rows: std::iter::once(first..first + count).collect(),
                matrix_rows: count * 2 / parts.len(),
                columns: columns.alternate(),
                first: Some(if (half == 0) == (gate == Gate::First) { 0 } else { 4 }),
            }
        };
        self.layer(&[half(0), half(1)], inner)
    }

    /// Loads a linear layer from `rows` of a checkpoint matrix `[columns, inner]`, in the order of `rows`. Use this
    /// function if the output of the whole matrix would be too wide. The tensor `bias` has a value for every row of the
    /// matrix.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::joined`].
    pub fn linear_rows(
        &mut self,
        weight: &str,
        bias: Option<&str>,
        rows: &[Range<usize>],
        MatrixShape { rows: columns, width: inner }: MatrixShape,
    ) -> Result<Linear, Error> {
        let part = LayerPart {
            weight: weight.to_owned(),
            bias: bias.map(str::to_owned),
            rows: rows.to_vec(),
            matrix_rows: columns,
            columns: Axis::plain(rows.iter().map(ExactSizeIterator::len).sum()).into(),
            first: None,
        };
        self.layer(&[part], Axis::plain(inner))
    }

    fn layer(&mut self, parts: &[LayerPart], inner: Axis) -> Result<Linear, Error> {
        let files = self.files;
        let mut placed = Vec::with_capacity(parts.len());
        let mut all = 0;
        for part in parts {
            let (name, entry) = files.find(&part.weight)?;
            self.shaped(&name, entry, &[part.matrix_rows, inner.len()])?;
            let pair = self.pair(&name, entry, false)?;
            placed.push(PlacedPart { part, name, entry, pair, first: part.first.unwrap_or(all) });
            all += part.columns.axis.padded();
        }
        let name = parts.first().map_or("", |part| &part.weight);
        let cells = all / 4;
        let cell_bytes = (inner.padded() * 4) as u64 * self.storage.bytes();
        let limit = self.to.largest_buffer().min(MAX_BLOCK_BYTES.max(2 * cell_bytes));
        let Some(cells_a_block) = cells_a_block(cells, cell_bytes, limit) else {
            let problem = format!(
                "8 columns of tensor `{name}` take {} bytes, but a shader can bind at most {limit} \
                 bytes; use a 16-bit dtype or another adapter",
                2 * cell_bytes
            );
            return Err(Error::adapter(self.to.adapter(), problem));
        };
        let mut blocks = Vec::new();
        for first in (0..cells).step_by(cells_a_block) {
            let count = cells_a_block.min(cells - first);
            let stride = stride4(count) * 4;
            let bytes = inner.padded() * stride * self.storage.bytes() as usize;
            let weight = self.to.add(name, bytes as u64)?;
            self.to.count_staged(bytes as u64);
            if !self.to.is_counting() {
                // Each row is padded to a multiple of four values, so the number of bytes is a multiple of 4.
                let mut packed = vec![0u32; bytes / 4];
                for part in &placed {
                    self.fill_block(
                        part,
                        inner,
                        first * 4..(first + count) * 4,
                        stride,
                        &mut packed,
                    )?;
                }
                self.to.write(weight, 0, bytemuck::cast_slice(&packed))?;
            }
            blocks.push(Block { weight, cells: count });
        }
        let mut biases = vec![0.0; all];
        for PlacedPart { part, first, .. } in &placed {
            let Some(bias) = &part.bias else { continue };
            let values = self.vector(bias, part.matrix_rows)?;
            for (i, row) in part.rows.iter().cloned().flatten().enumerate() {
                biases[first + part.columns.position(i)] = values[row];
            }
        }
        let bias = self.upload(name, bytemuck::cast_slice(&biases))?;
        let columns = parts.iter().map(|part| part.columns.axis.len()).sum();
        Ok(Linear { blocks, bias, columns, columns4: cells })
    }

    /// Writes the columns of a part that lie within the range `columns` of the layer into the block of this range.
    fn fill_block(
        &self,
        placed: &PlacedPart,
        inner: Axis,
        columns: Range<usize>,
        stride: usize,
        packed: &mut [u32],
    ) -> Result<(), Error> {
        let PlacedPart { part, name, entry, pair, first } = placed;
        let [start, end] = [columns.start, columns.end].map(|column| column.saturating_sub(*first));
        let values = part.columns.values_at(&(start..end));
        let width = inner.len();
        let rows_a_piece = (PIECE / width).next_multiple_of(GROUP).max(1);
        let mut loss = Loss::default();
        // The number of rows in the ranges before the current range.
        let mut run = 0;
        for rows in &part.rows {
            let (start, end) = (values.start.max(run), values.end.min(run + rows.len()));
            for value in (start..end).step_by(rows_a_piece) {
                let count = rows_a_piece.min(end - value);
                let (bytes, lost) = stored_rows(
                    self.files,
                    self.storage,
                    (name.as_str(), *entry, pair.as_ref()),
                    rows.start + value - run,
                    MatrixShape { rows: count, width },
                )?;
                loss.add(lost);
                let column = |at: usize| {
                    let column = first + part.columns.position(value + at);
                    columns.contains(&column).then(|| column - columns.start)
                };
                match self.storage.bytes() {
                    2 => {
                        let packed = bytemuck::cast_slice_mut(packed);
                        transpose::<u16>(&bytes, inner, packed, stride, column);
                    }
                    _ => transpose::<u32>(&bytes, inner, packed, stride, column),
                }
            }
            run += rows.len();
        }
        self.usable(name, entry, loss)
    }
}

/// Returns the number of cells in a block when a row of `cells` cells is split into blocks of at most `limit` bytes.
///
/// All blocks have about the same size. A block consists of whole tiles if a tile fits, and else of whole pairs of
/// cells. Returns `None` if not even a pair of cells fits.
fn cells_a_block(cells: usize, cell_bytes: u64, limit: u64) -> Option<usize> {
    let fits = usize::try_from(limit / cell_bytes.max(1)).unwrap_or(usize::MAX);
    let whole = if fits >= TILE_CELLS { TILE_CELLS } else { 2 };
    let fits = fits - fits % whole;
    let blocks = cells.max(1).div_ceil(fits.max(1));
    (fits > 0).then(|| cells.div_ceil(blocks).next_multiple_of(whole).max(whole))
}

/// Writes the matrix `[rows, inner]`, given as bytes, transposed into `packed`, a matrix `[padded inner, stride]`.
/// `column` returns the column of `packed` for a row, or `None` to skip the row.
fn transpose<T: bytemuck::Pod>(
    rows: &[u8],
    inner: Axis,
    packed: &mut [T],
    stride: usize,
    column: impl Fn(usize) -> Option<usize>,
) {
    let width = inner.len();
    let rows: Vec<T> = bytemuck::pod_collect_to_vec(rows);
    for (group, rows) in rows.chunks(GROUP * width).enumerate() {
        let columns: Vec<(usize, usize)> = (0..rows.len() / width)
            .filter_map(|row| column(group * GROUP + row).map(|column| (row * width, column)))
            .collect();
        for k in 0..width {
            let line = &mut packed[inner.position(k) * stride..][..stride];
            for (row, column) in &columns {
                line[*column] = rows[row + k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_respect_the_limit_and_are_whole_tiles() {
        for (cells, cell_bytes, most, expected) in [
            // In 16 bits, the gate and up projections of Mistral-7B have 235 MB together and are split into two blocks.
            (7168, 4096 * 8, 128 << 20, Some(3584)),
            (1024, 14336 * 8, 128 << 20, Some(1024)),
            (33, 10, 1000, Some(64)),
            (33, 10, 320, Some(32)),
            (65, 10, 320, Some(32)),
            (33, 10, 319, Some(18)),
            (1, 10, 20, Some(2)),
            (1, 10, 19, None),
            (0, 1, 19, Some(2)),
        ] {
            let got = cells_a_block(cells, cell_bytes, most);
            assert_eq!(got, expected, "{cells} {cell_bytes} {most}");
        }
        for cells in 1..200 {
            for most in 2..70 {
                let got = cells_a_block(cells, 1, most).unwrap();
                assert!(got.is_multiple_of(2) && got as u64 <= most, "{cells} {most}");
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        let (inner, count) = (Axis { blocks: 2, block: 3 }, 70);
        let rows: Vec<u16> = (0..count * 6).map(|i| i as u16 + 1).collect();
        let mut packed = vec![0u16; inner.padded() * 80];
        transpose(bytemuck::cast_slice(&rows), inner, &mut packed, 80, |row| {
            (row != 66).then_some(row + row / 64)
        });
        for row in 0..count {
            for k in 0..6 {
                let line = if k < 3 { k } else { k + 1 };
                let expected = if row == 66 { 0 } else { rows[row * 6 + k] };
                assert_eq!(packed[line * 80 + row + row / 64], expected);
            }
        }
        assert_eq!(packed.iter().filter(|value| **value != 0).count(), rows.len() - 6);
    }
}
