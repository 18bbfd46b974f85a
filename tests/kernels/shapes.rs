//! Random shapes for the kernels' tests. `VECTILE_SHAPES` sets how many shapes each kernel is tested with.

use vectile::dtype::Storage;
use vectile::kernels::Activation;

/// The sizes at which tiles, subgroups, cells and workgroups end.
const EDGES: [usize; 8] = [1, 4, 8, 16, 32, 64, 128, 256];

/// Every activation of the matmuls' epilogue.
pub const ACTIVATIONS: [Activation; 7] = [
    Activation::None,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

/// The environment variable with the number of random shapes of each kernel.
const COUNT: &str = "VECTILE_SHAPES";

const DEFAULT_COUNT: usize = 2;

/// A source of random shapes, which is the same in every run.
pub struct Shapes(fastrand::Rng);

/// Calls `check` once for each random shape of a kernel.
pub fn each(kernel: &str, mut check: impl FnMut(&mut Shapes)) {
    let count = std::env::var(COUNT).map_or(DEFAULT_COUNT, |count| count.parse().unwrap());
    let seed = kernel.bytes().fold(18u64, |seed, byte| (seed * 31 + u64::from(byte)) % 1_000_003);
    let mut shapes = Shapes(fastrand::Rng::with_seed(seed));
    for _ in 0..count {
        check(&mut shapes);
    }
    eprintln!("{kernel}: {count} random shapes, seed {seed}");
}

impl Shapes {
    /// Returns a size from 1 to `most`. Three of four sizes are at the end of a tile, or next to it.
    pub fn size(&mut self, most: usize) -> usize {
        let near = self.pick(&EDGES) + self.0.usize(0..3);
        let size = if self.0.u8(0..4) > 0 { near - 1 } else { self.0.usize(1..=most) };
        size.clamp(1, most)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(0..of.len())]
    }

    pub fn coin(&mut self) -> bool {
        self.0.bool()
    }

    /// Returns the largest value of an input: small, about 1, or near the limit of f16.
    pub fn scale(&mut self) -> f32 {
        self.pick(&[1e-3, 1.0, 100.0, 30_000.0])
    }

    pub fn storage(&mut self) -> Storage {
        self.pick(&Storage::ALL)
    }

    pub fn activation(&mut self) -> Activation {
        self.pick(&ACTIVATIONS)
    }
}
