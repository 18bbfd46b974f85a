// The facts about the machine and the browser that a page can see.

let info = null;

const brand = () => {
    const brands = navigator.userAgentData?.brands?.filter(({ brand }) => !/not.?a.?brand/i.test(brand)) ?? [];
    // A browser that is made of Chromium names both.
    const own = brands.find(({ brand }) => brand !== "Chromium") ?? brands[0];
    if (own) return `${own.brand} ${own.version}`;
    const [, name, version] = /(Firefox|Edg|Chrome)\/(\d+)/.exec(navigator.userAgent) ?? /(Safari)()/.exec(navigator.userAgent) ?? [];
    const safari = /Version\/([\d.]+)/.exec(navigator.userAgent)?.[1];
    return name ? `${name} ${version || safari || ""}`.trim() : "a browser";
};

const system = () => {
    const text = `${navigator.userAgentData?.platform ?? ""} ${navigator.userAgent}`;
    if (/android/i.test(text)) return "android";
    if (/iphone|ipad/i.test(text)) return "ios";
    if (/mac/i.test(text)) return "macos";
    if (/windows/i.test(text)) return "windows";
    return /linux|x11|cros/i.test(text) ? "linux" : "unknown";
};

// The reason why there is no adapter, and what to do.
function missing() {
    if (!isSecureContext) return "Browsers give WebGPU only to pages with HTTPS, or on localhost. Open this page there.";
    if (!navigator.gpu) return "This browser has no WebGPU. Chrome and Edge from 113, Firefox from 141 (Windows) and Safari from 26 have it.";
    return "This browser has WebGPU, but offers no GPU to this page. Its driver may be too old or blocked: see chrome://gpu or about:support. On Linux, Chrome may need the flag chrome://flags/#enable-unsafe-webgpu.";
}

export const machine = {
    // Asks the browser for the maker of the GPU, because adapters of the library may have no name.
    async look() {
        info = (await navigator.gpu?.requestAdapter())?.info ?? null;
    },

    name(adapter) {
        const given = [info?.vendor, info?.architecture].filter(Boolean).join(" ");
        return adapter.name || info?.description || given || "this GPU";
    },

    browser: () => brand(),

    host: () => ({ os: system(), arch: "wasm32", cpu: null, threads: navigator.hardwareConcurrency ?? 1, debug_build: false }),

    // Sentences about the machine, for the top of the page.
    facts(adapter) {
        if (!adapter) {
            return [{ text: missing(), missing: true }, { text: "Only the CPU can be timed here, in f32. The question about f16 needs a GPU." }];
        }
        const software = adapter.device_type === "Cpu" || /swiftshader|llvmpipe|software/i.test(`${this.name(adapter)} ${info?.description ?? ""}`);
        const found = [{ text: `GPU: ${this.name(adapter)}, in ${brand()}.` }];
        found.push(
            adapter.shader_f16
                ? { text: "It has f16 in shaders." }
                : { text: "f16 cannot run here: the GPU has no f16 in shaders, or the browser hides it.", missing: true },
        );
        if (software) found.push({ text: "It is software that runs on the CPU. Its speeds say nothing about a real GPU." });
        return found;
    },
};
