// A number with three significant digits.
export function number(value) {
    if (!Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
