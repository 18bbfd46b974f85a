//! The matmuls: y = epilogue(x · w + bias), for every variant of the matmul shaders.
//!
//! Work is split into blocks of rows or, if there are few rows, into panels of columns. The product of a block and a
//! panel stays in the cache while its epilogue runs. The split does not change a bit of the result, since each sum adds
//! all its products in a fixed order.

use std::cell::RefCell;
use std::sync::Mutex;

use super::call::{Call, Operand};
use super::epilogue::Epilogue;
use super::packed::{PANEL, Packed, Shape, Weight};
use super::workers::{chunks, count, each};
use crate::dtype::Storage;
use crate::error::Error;
use crate::kernels::matmul::MatmulParams;

thread_local! {
    /// The sums of a block of rows and a panel of columns.
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The error that was recorded first, if several threads return errors.
#[derive(Default)]
struct FirstError(Mutex<Option<Error>>);

impl FirstError {
    fn record(&self, result: Result<(), Error>) {
        if let Err(error) = result {
            let mut first = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert(error);
        }
    }

    fn result(self) -> Result<(), Error> {
        let error = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        error.map_or(Ok(()), Err)
    }
}

/// Returns the shape of a matmul's weight.
pub(super) fn shape(params: &MatmulParams) -> Shape {
    Shape {
        inner: params.inner4 as usize * 4,
        stride: params.stride4 as usize * 4,
        columns: params.cells4 as usize * 4,
    }
}

/// Computes the matmul of a dispatch.
pub(super) fn matmul(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: MatmulParams = call.params()?;
    let x = call.f32s(0)?;
    let temporary;
    let weight = match call.operands.get(1) {
        Some(Operand::Packed(packed)) => Weight::Packed(packed),
        _ if call.weights() == Storage::F32 => {
            temporary = Packed::new(Storage::F32, call.words(1)?, shape(&params));
            Weight::Packed(&temporary)
        }
        _ => Weight::Wide { storage: call.weights(), words: call.words(1)?, shape: shape(&params) },
    };
    if weight.shape() != shape(&params) {
        return Err(
            call.fault("the weight was packed for a shape that is not the shape of this matmul")
        );
    }
    let epilogue = Epilogue::new(call, &params)?;
    if call.setting("EXPERTS") == 1 {
        return experts(call, &params, x, &weight, &epilogue, y);
    }
    let rows = params.first_row as usize..params.rows as usize;
    let stride = params.columns4 as usize * 4;
    let y = &mut y[rows.start * stride..rows.end * stride];
    let few = 60 * count();
    let error = FirstError::default();
    if rows.len() <= few && count() > 1 {
        return few_rows(x, &weight, &epilogue, rows, y);
    }
    let block = block_rows(rows.len(), weight.block_rows());
    let inner = weight.shape().inner;
    chunks(y, block * stride, |at, y| {
        let first = rows.start + at * block;
        let count = y.len() / stride;
        let x = &x[first * inner..][..count * inner];
        let mut tile = TILE.take();
        tile.resize(block * PANEL, 0.0);
        for panel in 0..weight.shape().panels() {
            let (column, width) = weight.shape().panel(panel);
            let tile = &mut tile[..count * width];
            error.record(weight.product((0, panel), x, count, tile));
            epilogue.finish(tile, width, column);
            epilogue.store(tile, width, column, first, y);
        }
        TILE.replace(tile);
    });
    error.result()
}

/// Returns the number of rows in a block. The number is at most `most`, and a multiple of the tile height of
/// rten-gemm's kernels. All threads get about the same number of rows.
fn block_rows(rows: usize, most: usize) -> usize {
    let blocks = rows.div_ceil(most).next_multiple_of(count());
    rows.div_ceil(blocks.max(1)).next_multiple_of(12).clamp(1, most)
}

/// Computes a matmul with few rows. Each thread computes some panels of columns.
fn few_rows(
    x: &[f32],
    weight: &Weight<'_>,
    epilogue: &Epilogue<'_>,
    rows: std::ops::Range<usize>,
    y: &mut [f32],
) -> Result<(), Error> {
    let shape = weight.shape();
    let x = &x[rows.start * shape.inner..rows.end * shape.inner];
    let mut sums = TILE.take();
    let length = rows.len() * PANEL;
    sums.resize(shape.panels() * length, 0.0);
    let error = FirstError::default();
    chunks(&mut sums[..shape.panels() * length], length, |panel, tile| {
        let (column, width) = shape.panel(panel);
        let tile = &mut tile[..rows.len() * width];
        error.record(weight.product((0, panel), x, rows.len(), tile));
        epilogue.finish(tile, width, column);
    });
    for (panel, tile) in sums.chunks_exact_mut(length.max(1)).take(shape.panels()).enumerate() {
        let (column, width) = shape.panel(panel);
        epilogue.store(&mut tile[..rows.len() * width], width, column, rows.start, y);
    }
    TILE.replace(sums);
    error.result()
}

/// A run of consecutive rows that belong to one expert.
struct Run<'s> {
    expert: usize,
    /// For each row of the run, the index of the row of y that holds the result.
    rows: Vec<usize>,
    sums: &'s mut [f32],
}

/// Computes a matmul whose rows are grouped by expert.
fn experts(
    call: &Call<'_>,
    params: &MatmulParams,
    x: &[f32],
    weight: &Weight<'_>,
    epilogue: &Epilogue<'_>,
    y: &mut [f32],
) -> Result<(), Error> {
    let order: &[f32] = call.f32s(4)?;
    let shape = weight.shape();
    let columns = epilogue.columns(shape.columns);
    let mut runs: Vec<(usize, Vec<usize>)> = Vec::new();
    for slot in order.chunks_exact(2).take(params.rows as usize).skip(params.first_row as usize) {
        if slot[0] < 0.0 {
            continue;
        }
        let (row, expert) = (slot[0] as usize, slot[1] as usize);
        match runs.last_mut() {
            Some((last, rows)) if *last == expert && rows.len() < weight.block_rows() => {
                rows.push(row);
            }
            _ => runs.push((expert, vec![row])),
        }
    }
    let mut sums = vec![0.0; runs.iter().map(|(_, rows)| rows.len()).sum::<usize>() * columns];
    let mut rest = sums.as_mut_slice();
    let mut work = Vec::with_capacity(runs.len());
    for (expert, rows) in runs {
        let (own, others) = rest.split_at_mut(rows.len() * columns);
        work.push(Run { expert, rows, sums: own });
        rest = others;
    }
    let target: Vec<usize> = work.iter().flat_map(|run| run.rows.iter().copied()).collect();
    let error = FirstError::default();
    each(work, |Run { expert, rows, sums }| {
        let count = rows.len();
        let mut own = Vec::with_capacity(count * shape.inner);
        for row in &rows {
            let source = row / params.x_share as usize;
            own.extend_from_slice(&x[source * shape.inner..][..shape.inner]);
        }
        let mut tile = TILE.take();
        tile.resize(count * PANEL, 0.0);
        for panel in 0..shape.panels() {
            let (column, width) = shape.panel(panel);
            let tile = &mut tile[..count * width];
            error.record(weight.product((expert, panel), &own, count, tile));
            epilogue.finish(tile, width, column);
            epilogue.copy(tile, width, column, columns, sums);
        }
        TILE.replace(tile);
    });
    let stride = params.columns4 as usize * 4;
    let first = epilogue.columns(params.first_cell as usize * 4);
    for (row, values) in target.iter().zip(sums.chunks_exact(columns)) {
        let at = row * stride + first;
        epilogue.store_row(values, row / params.token_share as usize, at, &mut y[at..][..columns]);
    }
    error.result()
}
