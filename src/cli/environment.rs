//! The environment of the process, before any thread starts.

/// Gives `XDG_RUNTIME_DIR` a value where it has none.
///
/// Mesa's device-select layer, which Vulkan loads into every program, opens a Wayland display. Without the variable,
/// libwayland prints an error on stderr that has nothing to do with this program. Under `/dev/null` there is no display,
/// and no message. The order of the adapters stays the same, which it would not if the layer were disabled.
pub fn silence_display_libraries() {
    const VARIABLE: &str = "XDG_RUNTIME_DIR";
    let is_usable = std::env::var_os(VARIABLE)
        .is_some_and(|directory| std::path::Path::new(&directory).is_absolute());
    if cfg!(target_os = "linux") && !is_usable {
        // SAFETY: the first statement of `main`, before any other thread exists.
        unsafe { std::env::set_var(VARIABLE, "/dev/null") };
    }
}
