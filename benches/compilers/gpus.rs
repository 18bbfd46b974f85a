//! The GPUs whose drivers run without hardware.

/// A maker of GPUs. It determines the format of a driver's statistics and assembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Amd,
    Nvidia,
    Qualcomm,
    Apple,
}

/// A GPU whose driver runs without hardware.
#[derive(Debug, Clone, Copy)]
pub struct Gpu {
    /// The GPU's name as the argument of the script `silent`.
    pub name: &'static str,
    /// A product with this GPU.
    pub product: &'static str,
    pub vendor: Vendor,
}

const fn gpu(name: &'static str, product: &'static str, vendor: Vendor) -> Gpu {
    Gpu { name, product, vendor }
}

/// Every GPU that the script `silent` knows.
pub const GPUS: [Gpu; 18] = [
    gpu("polaris10", "Radeon RX 580", Vendor::Amd),
    gpu("vega10", "Radeon RX Vega 64", Vendor::Amd),
    gpu("vega20", "Radeon VII", Vendor::Amd),
    gpu("renoir", "Ryzen 4000 (integrated)", Vendor::Amd),
    gpu("navi10", "Radeon RX 5700 XT", Vendor::Amd),
    gpu("navi21", "Radeon RX 6900 XT", Vendor::Amd),
    gpu("navi31", "Radeon RX 7900 XTX", Vendor::Amd),
    gpu("navi33", "Radeon RX 7600", Vendor::Amd),
    gpu("gfx1201", "Radeon RX 9070 XT", Vendor::Amd),
    gpu("tu104", "GeForce RTX 2080", Vendor::Nvidia),
    gpu("ga100", "A100", Vendor::Nvidia),
    gpu("ga102", "GeForce RTX 3090", Vendor::Nvidia),
    gpu("a630", "Adreno 630 (Snapdragon 845)", Vendor::Qualcomm),
    gpu("a660", "Adreno 660 (Snapdragon 888)", Vendor::Qualcomm),
    gpu("a740", "Adreno 740 (Snapdragon 8 Gen 2)", Vendor::Qualcomm),
    gpu("a750", "Adreno 750 (Snapdragon 8 Gen 3)", Vendor::Qualcomm),
    gpu("a830", "Adreno 830 (Snapdragon 8 Elite)", Vendor::Qualcomm),
    gpu("m1", "Apple M1", Vendor::Apple),
];
