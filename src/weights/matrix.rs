//! Matrices `[columns, inner]` of checkpoints → `[inner, columns]` in blocks that a shader sees whole.
//!
//! A block is put in order on the host and then uploaded: no matrix is in host memory as a whole.

use std::ops::Range;

use crate::convert::Loss;
use crate::error::Error;
use crate::kernels::matmul::{Block, Linear, stride4};
use crate::weights::TensorEntry;
use crate::weights::axis::{Axis, Columns, Gate};
use crate::weights::loader::{Loader, PIECE, stored_rows};
use crate::weights::lora::LoraPair;

/// Bytes of a block, at most, whatever an adapter could hold: the host puts one in order at a time.
/// Smaller ones would leave a GPU idle with a short text.
const BLOCK: u64 = 128 << 20;
/// Blocks are cut between tiles of the matmuls, in cells, where they have as many.
const TILE: usize = 32;
/// Rows of a checkpoint matrix that are written as columns at a time: a line of the cache or two.
const GROUP: usize = 32;

/// Rows of a checkpoint matrix that become columns of a layer.
struct Part {
    /// The names of the tensors.
    weight: String,
    bias: Option<String>,
    /// Which rows of the matrix, in their order, and how many it has.
    rows: Vec<Range<usize>>,
    of: usize,
    columns: Columns,
    /// The first column, with filling, where it does not come after those of the part before.
    first: Option<usize>,
}

/// A part with the tensor it is read from and its place in the layer.
struct Placed<'a> {
    part: &'a Part,
    name: String,
    entry: &'a TensorEntry,
    pair: Option<LoraPair>,
    /// Its first column, with filling.
    first: usize,
}

impl Loader<'_, '_> {
    /// A linear layer from one or more checkpoint matrices of the same shape, put side by side.
    /// `columns` are those of each; for the rest see [`Loader::joined`].
    ///
    /// # Errors
    /// As [`Loader::joined`].
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

    /// A linear layer from one or more checkpoint matrices `[columns, inner]`, put side by side:
    /// `parts` names them without `.weight` and `.bias`, each with its columns.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values; [`Error::Adapter`]
    /// where not even some columns fit what a shader sees.
    pub fn joined(
        &mut self,
        parts: &[(&str, Columns)],
        bias: bool,
        inner: Axis,
    ) -> Result<Linear, Error> {
        let part = |(base, columns): &(&str, Columns)| Part {
            weight: format!("{base}.weight"),
            bias: bias.then(|| format!("{base}.bias")),
            rows: std::iter::once(0..columns.axis.len()).collect(),
            of: columns.axis.len(),
            columns: *columns,
            first: None,
        };
        self.layer(&parts.iter().map(part).collect::<Vec<_>>(), inner)
    }

    /// A gate and what it multiplies, `columns` each, from one checkpoint matrix of both or from two, a cell
    /// of one beside a cell of the other: [`Epilogue::Gated`](crate::kernels::matmul::Epilogue::Gated) makes
    /// `columns` of them.
    ///
    /// # Errors
    /// As [`Loader::joined`].
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
            Part {
                weight: format!("{base}.weight"),
                bias: bias.then(|| format!("{base}.bias")),
                rows: std::iter::once(first..first + count).collect(),
                of: count * 2 / parts.len(),
                columns: columns.alternate(),
                first: Some(if (half == 0) == (gate == Gate::First) { 0 } else { 4 }),
            }
        };
        self.layer(&[half(0), half(1)], inner)
    }

    /// The linear layer of some rows of a checkpoint matrix `[columns, inner]`, in their order: a part of
    /// a layer whose whole result would be too wide. `bias` is of all rows.
    ///
    /// # Errors
    /// As [`Loader::joined`].
    pub fn linear_rows(
        &mut self,
        weight: &str,
        bias: Option<&str>,
        rows: &[Range<usize>],
        [columns, inner]: [usize; 2],
    ) -> Result<Linear, Error> {
        let part = Part {
            weight: weight.to_owned(),
            bias: bias.map(str::to_owned),
            rows: rows.to_vec(),
            of: columns,
            columns: Axis::plain(rows.iter().map(ExactSizeIterator::len).sum()).into(),
            first: None,
        };
        self.layer(&[part], Axis::plain(inner))
    }

    fn layer(&mut self, parts: &[Part], inner: Axis) -> Result<Linear, Error> {
        let files = self.files;
        let mut placed = Vec::with_capacity(parts.len());
        let mut all = 0;
        for part in parts {
            let (name, entry) = files.find(&part.weight)?;
            self.shaped(&name, entry, &[part.of, inner.len()])?;
            let pair = self.pair(&name, entry, false)?;
            placed.push(Placed { part, name, entry, pair, first: part.first.unwrap_or(all) });
            all += part.columns.axis.filled();
        }
        let name = parts.first().map_or("", |part| &part.weight);
        let cells = all / 4;
        let cell_bytes = (inner.filled() * 4) as u64 * self.storage.bytes();
        let most = self.to.largest_buffer().min(BLOCK.max(2 * cell_bytes));
        let Some(cells_a_block) = cells_a_block(cells, cell_bytes, most) else {
            let problem = format!(
                "8 columns of tensor `{name}` take {} bytes and a shader sees {most} at once; use a \
                 16-bit dtype or another adapter",
                2 * cell_bytes
            );
            return Err(Error::adapter(self.to.adapter(), problem));
        };
        let mut blocks = Vec::new();
        for first in (0..cells).step_by(cells_a_block) {
            let count = cells_a_block.min(cells - first);
            let stride = stride4(count) * 4;
            let bytes = inner.filled() * stride * self.storage.bytes() as usize;
            let weight = self.to.add(name, bytes as u64)?;
            self.to.put_in_order(bytes as u64);
            if !self.to.is_counting() {
                // Rows are whole cells, so bytes are whole words.
                let mut packed = vec![0u32; bytes / 4];
                for part in &placed {
                    self.put(part, inner, first * 4..(first + count) * 4, stride, &mut packed)?;
                }
                self.to.write(weight, 0, bytemuck::cast_slice(&packed))?;
            }
            blocks.push(Block { weight, cells: count });
        }
        let mut biases = vec![0.0; all];
        for Placed { part, first, .. } in &placed {
            let Some(bias) = &part.bias else { continue };
            let values = self.vector(bias, part.of)?;
            for (i, row) in part.rows.iter().cloned().flatten().enumerate() {
                biases[first + part.columns.place(i)] = values[row];
            }
        }
        let bias = self.upload(name, bytemuck::cast_slice(&biases))?;
        let columns = parts.iter().map(|part| part.columns.axis.len()).sum();
        Ok(Linear { blocks, bias, columns, columns4: cells })
    }

    /// Puts the columns of a part that are among `columns` of the layer into a block of them.
    fn put(
        &self,
        placed: &Placed,
        inner: Axis,
        columns: Range<usize>,
        stride: usize,
        packed: &mut [u32],
    ) -> Result<(), Error> {
        let Placed { part, name, entry, pair, first } = placed;
        let [start, end] = [columns.start, columns.end].map(|column| column.saturating_sub(*first));
        let wanted = part.columns.among(&(start..end));
        let width = inner.len();
        let rows_a_piece = (PIECE / width).next_multiple_of(GROUP).max(1);
        let mut loss = Loss::default();
        // Values of the axis, of which each run of rows gives some.
        let mut run = 0;
        for rows in &part.rows {
            let (start, end) = (wanted.start.max(run), wanted.end.min(run + rows.len()));
            for value in (start..end).step_by(rows_a_piece) {
                let count = rows_a_piece.min(end - value);
                let (bytes, lost) = stored_rows(
                    self.files,
                    self.storage,
                    (name.as_str(), *entry, pair.as_ref()),
                    rows.start + value - run,
                    [count, width],
                )?;
                loss.add(lost);
                let column = |at: usize| {
                    let column = first + part.columns.place(value + at);
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

/// Cells of the blocks that a row of `cells` is cut into, so that each takes at most `most` bytes: whole
/// pairs, whole tiles where possible, and blocks of about the same size. `None` where not even a pair fits.
fn cells_a_block(cells: usize, cell_bytes: u64, most: u64) -> Option<usize> {
    let fits = usize::try_from(most / cell_bytes.max(1)).unwrap_or(usize::MAX);
    let whole = if fits >= TILE { TILE } else { 2 };
    let fits = fits - fits % whole;
    let blocks = cells.max(1).div_ceil(fits.max(1));
    (fits > 0).then(|| cells.div_ceil(blocks).next_multiple_of(whole).max(whole))
}

/// Writes rows `[rows, inner]`, given as bytes, as columns of `packed`, `[inner with filling, stride]`; `column`
/// says which, and `None` for a row that is none of them.
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
            let line = &mut packed[inner.place(k) * stride..][..stride];
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
    fn blocks_hold_their_bytes_and_are_whole_tiles() {
        for (cells, cell_bytes, most, expected) in [
            // A gate and up of Mistral-7B in 16 bits: 235 MB in two blocks.
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
        let mut packed = vec![0u16; inner.filled() * 80];
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
