//! A kernel described as data: its WGSL source, its bindings, its parameters and the settings of its variants.

/// How a kernel uses a binding. Bindings are numbered from 0 in bind group 0, and the parameters are the last binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A storage buffer that the kernel reads.
    Read,
    /// A storage buffer that the kernel writes.
    Write,
}

/// A field of a kernel's parameters, as Rust declares it. A test compares it with the declaration in WGSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The field's name in Rust and in WGSL.
    pub name: &'static str,
    /// The field's type in WGSL: `u32` or `f32`.
    pub kind: &'static str,
    /// The field's offset in bytes.
    pub offset: usize,
}

/// The descriptor of a compute kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The kernel's name, which is also the name of its WGSL file, entry point, test and labels.
    pub name: &'static str,
    /// The kernel's WGSL source with unresolved imports.
    pub source: &'static str,
    /// The storage buffers of bind group 0, in order. The parameters follow, as a uniform buffer.
    pub bindings: &'static [Access],
    /// The fields of the parameters.
    pub params: &'static [Field],
    /// True if the kernel's WGSL depends on the storage type of weights.
    pub reads_weights: bool,
    /// True if the kernel's WGSL depends on the storage type of activations.
    pub reads_activations: bool,
    /// True if the kernel has a variant with subgroup operations and one without.
    pub has_subgroup_variant: bool,
    /// True if the kernel multiplies cooperative matrices. Such a kernel has f16 weights and activations.
    pub cooperative: bool,
    /// Every constant and override of the kernel, with the values that they take in tests.
    pub settings: &'static [Setting],
}

/// A constant or an override of a kernel, with the values that it takes in tests.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The setting's name in the WGSL.
    pub name: &'static str,
    /// True for a `const` that the host rewrites in the WGSL source, false for an `override`.
    pub constant: bool,
    /// The values of the constant or override with which tests run the kernel.
    pub values: &'static [u32],
}

/// Two kernels are equal if their names are equal.
impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kernel {}

/// Declares the parameters of a kernel: a `repr(C)` struct and the list of its fields.
#[macro_export]
#[doc(hidden)]
macro_rules! params {
    ($(#[$doc:meta])* pub struct $name:ident { $($field:ident: $kind:ident),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $(
            #[allow(missing_docs)]
            pub $field: $kind,
        )* }

        impl $name {
            /// The fields in order.
            pub const FIELDS: &'static [$crate::gpu::kernel::Field] = &[$(
                $crate::gpu::kernel::Field {
                    name: stringify!($field),
                    kind: stringify!($kind),
                    offset: std::mem::offset_of!($name, $field),
                },
            )*];
        }
    };
}
