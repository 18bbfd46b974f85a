// Draws plots as SVG. Colours come from the style sheet, so that plots follow the page's theme.

const WIDTH = 360;
const LEFT = 80;
const RIGHT = 350;
const ROW = 30;

function node(name, attributes = {}, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
}

// Round steps for an axis from zero.
function steps(most) {
    const rough = most / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
    return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step);
}

function frame(rows, label) {
    const height = rows * ROW + 28;
    const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label });
    const tick = (x, text) => {
        svg.append(node("line", { x1: x, x2: x, y1: 4, y2: rows * ROW + 4, class: "grid" }));
        svg.append(node("text", { x, y: rows * ROW + 20, "text-anchor": "middle", class: "faint" }, text));
    };
    return { svg, tick, y: (row) => row * ROW + ROW / 2 + 4 };
}

// Each round as a point, and the median as a line. `series`: { title, color, values, median }.
export function strips(series, label) {
    const { svg, tick, y } = frame(series.length, label);
    const most = Math.max(...series.flatMap(({ values }) => values)) * 1.05;
    const x = (value) => LEFT + (value / most) * (RIGHT - LEFT);
    for (const step of steps(most)) tick(x(step), step.toLocaleString("en", { notation: step >= 10000 ? "compact" : "standard" }));
    series.forEach(({ title, color, values, median }, row) => {
        svg.append(node("text", { x: LEFT - 8, y: y(row) + 4, "text-anchor": "end" }, title));
        svg.append(node("rect", { x: LEFT, y: y(row) - 7, width: x(median) - LEFT, height: 14, class: `c${color} faded` }));
        for (const value of values) svg.append(node("circle", { cx: x(value), cy: y(row), r: 4, class: `c${color}` }));
        svg.append(node("line", { x1: x(median), x2: x(median), y1: y(row) - 11, y2: y(row) + 11, class: "median" }));
    });
    return svg;
}

// Values on an axis of powers of ten. Zero has no place on it, and is written out.
export function powers(series, label) {
    const { svg, tick, y } = frame(series.length, label);
    const shown = series.map(({ value }) => value).filter((value) => value > 0);
    const low = Math.floor(Math.log10(Math.min(...shown, 1e-7)));
    const high = Math.ceil(Math.log10(Math.max(...shown, 1e-2)));
    const x = (value) => LEFT + ((Math.log10(value) - low) / (high - low)) * (RIGHT - LEFT - 8);
    for (let power = low; power <= high; power++) {
        const digits = [...String(power)].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]).join("");
        tick(x(10 ** power), `10${digits}`);
    }
    series.forEach(({ title, color, value }, row) => {
        svg.append(node("text", { x: LEFT - 8, y: y(row) + 4, "text-anchor": "end" }, title));
        if (value > 0) svg.append(node("circle", { cx: x(value), cy: y(row), r: 5, class: `c${color}` }));
        else svg.append(node("text", { x: LEFT + 6, y: y(row) + 4, class: "faint" }, "no difference"));
    });
    return svg;
}
