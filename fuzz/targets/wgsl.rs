//! The target `wgsl`: the kernels' WGSL sources with imports, constants and unrolled loops.

use arbitrary::{Result, Unstructured};

use crate::dtype::Storage;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::{Lanes, ShaderVariant, resolve_for_browser, resolve_imports};
use crate::kernels::ALL;

const STORAGES: [Storage; 4] =
    [Storage::F32, Storage::F16, Storage::PackedF16, Storage::PackedBf16];

/// Values for constants. Each is wrong for at least one constant.
const VALUES: [u32; 14] =
    [0, 1, 2, 3, 5, 7, 33, 100, 1000, 65_535, 65_536, 1 << 24, 1 << 31, u32::MAX];

/// The maximum number of bytes in the WGSL source of a variant. Unrolled loops may take 1 MiB of it.
const MOST_BYTES: usize = 2 << 20;

/// The target `wgsl`. The first byte chooses the kernel. If the second byte is odd, the other bytes choose mistakes in
/// the kernel's source as well as its constants.
pub fn wgsl(data: &[u8]) {
    let Some((&[kernel, mode], data)) = data.split_first_chunk() else { return };
    let kernel = ALL[usize::from(kernel) % ALL.len()];
    let u = &mut Unstructured::new(data);
    let Ok(variant) = variant(u, kernel) else { return };
    let edited = (mode % 2 == 1).then(|| edited(u, kernel.source).ok()).flatten();
    let source = edited.as_deref().unwrap_or(kernel.source);
    match resolve_imports(source, &variant) {
        Ok(text) => {
            check(kernel, &variant, &text);
            // A second resolution takes as long as the first.
            if data.last().is_some_and(|last| last % 16 == 1) {
                let browser =
                    resolve_for_browser(source, &variant).expect("naga's source was resolved");
                assert!(browser.ends_with(&text), "{}: browsers get another source", kernel.name);
            }
        }
        Err(problem) => assert!(!problem.is_empty()),
    }
}

/// Checks that a resolved source has no import left, has its constants, and is not too large to compile.
fn check(kernel: &Kernel, variant: &ShaderVariant, text: &str) {
    let name = kernel.name;
    assert!(text.len() <= MOST_BYTES, "{name} has {} bytes of WGSL: {variant:?}", text.len());
    assert!(!text.lines().any(|line| line.starts_with("#import ")), "{name} keeps an import");
    let subgroups = variant.lanes != Lanes::Alone;
    for (constant, _) in &variant.constants {
        // This constant gets the size of the adapter's subgroups, and not the listed value.
        if subgroups && *constant == "SHARE" {
            continue;
        }
        // If a constant has two values in the list, the last one is used.
        let given = variant.constants.iter().rev().find(|(other, _)| other == constant);
        let (constant, value) = given.expect("the constant is in the list");
        let head = format!("const {constant}: u32 = ");
        for line in text.lines().filter(|line| line.starts_with(&head)) {
            assert_eq!(line, format!("{head}{value}u;"), "{name}");
        }
    }
}

fn variant(u: &mut Unstructured, kernel: &Kernel) -> Result<ShaderVariant> {
    let lanes = match u.int_in_range(0..=3)? {
        0 | 1 => Lanes::Alone,
        2 => Lanes::Subgroup(*u.choose(&[4, 8, 16, 32, 64])?),
        _ => Lanes::Subgroup(*u.choose(&VALUES)?),
    };
    let (weights, activations) = (*u.choose(&STORAGES)?, *u.choose(&STORAGES)?);
    let mut variant = ShaderVariant::new(weights, activations, lanes);
    // A kernel's settings list the constants that depend on the model. Its source also has those that depend on the
    // adapter.
    let mut names: Vec<&'static str> = kernel
        .source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.split_once(": u32 = "))
        .map(|(name, _)| name)
        .collect();
    names.extend(kernel.settings.iter().filter(|s| s.constant).map(|setting| setting.name));
    names.extend(["SIDE", "ELEMENTS", "SHARE"]);
    for _ in 0..u.int_in_range(0..=4)? {
        let name = *u.choose(&names)?;
        let usual = kernel.settings.iter().find(|setting| setting.name == name);
        let value = match (u.int_in_range(0..=3)?, usual) {
            (0, _) => u.int_in_range(0..=64)?,
            (1, _) => u.arbitrary()?,
            (2, Some(setting)) if !setting.values.is_empty() => *u.choose(setting.values)?,
            _ => *u.choose(&VALUES)?,
        };
        variant = variant.constant(name, value);
    }
    Ok(variant)
}

/// Returns a source with one or two mistakes in its lines.
fn edited(u: &mut Unstructured, source: &str) -> Result<String> {
    let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let marked: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].contains("#import") || lines[*at].contains("unrolled"))
        .collect();
    for _ in 0..u.int_in_range(1..=2)? {
        let any = u.choose_index(lines.len())?;
        let at = match marked.is_empty() || u.ratio(1, 3)? {
            true => any,
            false => *u.choose(&marked)?,
        };
        if at >= lines.len() {
            continue;
        }
        match u.int_in_range(0..=7)? {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines[at].push_str(" up to 99999999999"),
            3 => lines[at].push_str(" // unrolled up to 4294967295"),
            4 => lines[at] = lines[at].replacen("import", "import storage as", 1),
            5 => lines[at] = lines[at].replacen('0', "1", 1),
            6 => lines[at].insert_str(0, "  "),
            _ => {
                let cut = u.choose_index(lines[at].len() + 1)?;
                let cut = lines[at].floor_char_boundary(cut);
                lines[at].truncate(cut);
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    Ok(lines.join("\n"))
}
