//! Prepares the environment variables of the process before any thread starts.

/// Sets `XDG_RUNTIME_DIR` if it is not set.
///
/// Mesa's device-select layer, which Vulkan loads into every program, opens a Wayland display. If the variable is
/// not set, libwayland prints an error on stderr that has nothing to do with this program. If its value is
/// `/dev/null`, libwayland finds no display and prints nothing. Disabling the layer instead would change the order
/// of the adapters.
pub fn silence_display_libraries() {
    const VARIABLE: &str = "XDG_RUNTIME_DIR";
    let is_usable = std::env::var_os(VARIABLE)
        .is_some_and(|directory| std::path::Path::new(&directory).is_absolute());
    if cfg!(target_os = "linux") && !is_usable {
        // SAFETY: this is the first statement of `main`, so no other thread exists yet.
        unsafe { std::env::set_var(VARIABLE, "/dev/null") };
    }
}
