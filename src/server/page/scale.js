// The colours of cosines: blue from 0 to 1 and orange from 0 to -1, stronger with the distance from 0. All kinds of
// colour vision distinguish the two, and lightness alone orders each. Mixed in OKLab, so that equal steps look equal.

const night = matchMedia("(prefers-color-scheme: dark)");
// Colours at strength 0, 0.5 and 1.
const STOPS = {
  day: { like: [[0xf3, 0xf6, 0xf9], [0x6c, 0xad, 0xe0], [0x0a, 0x3d, 0x80]], unlike: [[0xf3, 0xf6, 0xf9], [0xe9, 0x9a, 0x56], [0x8a, 0x37, 0x00]] },
  night: { like: [[0x23, 0x29, 0x30], [0x2b, 0x73, 0xb5], [0xb4, 0xdb, 0xff]], unlike: [[0x23, 0x29, 0x30], [0xb0, 0x61, 0x1f], [0xff, 0xcb, 0x96]] },
};

const linear = (part) => (part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);
const gamma = (part) => Math.round(255 * (part <= 0.0031308 ? 12.92 * part : 1.055 * part ** (1 / 2.4) - 0.055));

function toLab(rgb) {
  const [r, g, b] = rgb.map(linear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromLab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((part) => Math.min(1, Math.max(0, part)));
}

/** Calls `paint` when the theme changes. */
export function onTheme(paint) {
  night.addEventListener("change", paint);
}

/** The colour of a cosine and the text colour on it: black or white, whichever has more contrast, at least 4.5.
 * `ends` are the cosines with the weakest and the strongest colour; by default 0 and 1. */
export function colour(cosine, ends) {
  const { like, unlike } = night.matches ? STOPS.night : STOPS.day;
  const at = ends ? (cosine - ends[0]) / (ends[1] - ends[0] || 1) : cosine;
  const strength = Math.min(1, Math.abs(ends ? Math.max(0, at) : at));
  const stops = (at < 0 && !ends ? unlike : like).map(toLab);
  const half = strength < 0.5 ? 0 : 1;
  const share = strength * 2 - half;
  const parts = fromLab(stops[half].map((part, i) => part + (stops[half + 1][i] - part) * share));
  const light = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  return { paper: `rgb(${parts.map(gamma).join(" ")})`, ink: light > 0.1791 ? "#000" : "#fff" };
}

/** The colour scale as a CSS gradient. */
export function ramp(ends) {
  const [from, to] = ends ?? [-1, 1];
  const stops = Array.from({ length: 21 }, (_, i) => colour(from + ((to - from) * i) / 20, ends).paper);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}
