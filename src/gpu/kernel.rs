//! A kernel described as data: its WGSL, bindings, parameter block and what of it varies.

/// What a binding is for. The bindings of group 0 stand in order, the parameter block last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A storage buffer that the kernel reads.
    Read,
    /// A storage buffer that the kernel writes.
    Write,
}

/// A field of a parameter block, as Rust declares it; a test compares it with the WGSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in Rust and in WGSL.
    pub name: &'static str,
    /// `u32` or `f32`.
    pub kind: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
}

/// A compute kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The name of its WGSL file, entry point, module, test and label.
    pub name: &'static str,
    /// The WGSL, imports unresolved.
    pub source: &'static str,
    /// Storage buffers of group 0, in order. The parameter block follows as a uniform.
    pub bindings: &'static [Access],
    /// The fields of the parameter block.
    pub params: &'static [Field],
    /// True where it writes activations: it then marks tokens out of range in group 1.
    pub stores_activations: bool,
    /// True where the storage of weights matters to it.
    pub reads_weights: bool,
    /// True where the storage of activations matters to it.
    pub reads_activations: bool,
    /// True where it has a subgroup variant and a twin.
    pub has_subgroup_variant: bool,
    /// True where it multiplies cooperative matrices: weights and activations are f16 then.
    pub cooperative: bool,
    /// Every constant and override with the values that tests walk.
    pub settings: &'static [Setting],
}

/// A constant or an override of a kernel, with values that matter.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the WGSL.
    pub name: &'static str,
    /// True for a constant of the text, false for an `override`.
    pub constant: bool,
    /// Values that tests walk.
    pub values: &'static [u32],
}

/// Kernels are compared by name.
impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kernel {}

/// Declares a parameter block: a `repr(C)` struct and its list of fields.
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
