//! The arguments of the bench.

use std::path::PathBuf;

use clap::Parser;

/// Compiles the kernels with the drivers of GPUs that the machine lacks.
#[derive(Debug, Clone, Parser)]
#[command(name = "compilers")]
pub struct Arguments {
    /// The directory of the drivers, which `scripts/compilers.sh` unpacks
    #[arg(long, env = "VECTILE_SILENT_DRIVERS", value_name = "DIR")]
    pub drivers: Option<PathBuf>,

    /// The GPUs to compile for, separated by commas; all eighteen by default
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub gpu: Vec<String>,

    /// Only kernels whose name contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub kernel: String,

    /// Also compile every epilogue of matmuls, and windows and biases of attention
    #[arg(long)]
    pub branches: bool,

    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the assembly of each pipeline into this directory (AMD and NVIDIA)
    #[arg(long, value_name = "DIR")]
    pub assembly: Option<PathBuf>,

    /// Compare two files of figures, and compile nothing
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"])]
    pub compare: Vec<PathBuf>,

    /// Compare the figures with benches/compilers/limits.json, and fail if one exceeds its limit
    #[arg(long)]
    pub check: bool,

    /// Write what the drivers say of their GPUs to this file, and compile nothing
    #[arg(long, value_name = "FILE")]
    pub adapters: Option<PathBuf>,

    /// Compile for this GPU, whose driver runs in this process, and print JSON
    #[arg(long, hide = true, value_name = "NAME")]
    pub here: Option<String>,

    /// cargo passes this argument to benches
    #[arg(long, hide = true)]
    pub bench: bool,
}
