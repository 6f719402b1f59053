// Elements, numbers with units, axes, colours and labels of plots.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const digits = Plot.format(".4~g"), powers = Plot.format("~s");

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Numbers with units

function duration(seconds) {
  const two = (number) => {
    const whole = Math.round(number);
    return number >= 9.95 || Math.abs(number - whole) < 0.02 * number ? String(whole) : String(+number.toPrecision(2));
  };
  if (seconds >= 7200) return `${two(seconds / 3600)} h`;
  return seconds >= 120 ? `${two(seconds / 60)} min` : `${two(seconds)} s`;
}

function fileSize(bytes) {
  const [unit, size] = bytes >= 1e9 ? ["GB", 1e9] : bytes >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${(+(bytes / size).toPrecision(3)).toLocaleString("en")} ${unit}`;
}

const operations = (count) => count.toExponential(count.toPrecision(1) == count ? 0 : 2).replace("e+", "e");
const AXES = {
  training_seconds: ["training time", duration],
  step: ["updates", powers],
  electra_flops: ["operations, by ELECTRA's count", operations],
  flops: ["operations", operations],
  tokens: ["tokens", powers],
};

// Ticks of a logarithmic axis: as many digits times powers of ten as there is room for, or where these are fewer
// than three, round numbers.
function ticks(low, high, most) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(power);
  const inside = (digits) => powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`)))
    .filter((each) => each >= low && each <= high);
  const series = [[1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8], [1, 1.5, 2, 3, 4, 6], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]].map(inside);
  const fitting = series.find((each) => each.length <= most) ?? series[5].filter((_, index) => index % 3 === 0);
  if (fitting.length >= 3 || high / low > 4) return fitting;
  const power = 10 ** Math.floor(Math.log10((high - low) / 3));
  const step = [5, 2, 1].map((each) => each * power).find((each) => (high - low) / each >= 2) ?? power;
  const first = Math.ceil(low / step), count = Math.floor(high / step) - first + 1;
  return Array.from({length: count}, (_, index) => +((first + index) * step).toPrecision(6));
}

const minutes = [1, 2, 5, 10, 20, 30];
const TIMES = [...minutes, ...minutes.map((each) => each * 60), ...[1, 2, 5, 10, 20, 50, 100].map((each) => each * 3600)];

const extent = (values) => values.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, -Infinity]);

// The scale of an axis, its marks and their texts.
function logarithmic(values, label, text, most, {times = false, room = 1.04} = {}) {
  const [low, high] = extent(values).map((each, end) => (end ? each * room : each / room));
  const inside = times ? TIMES.filter((each) => each >= low && each <= high) : [];
  const every = inside.filter((_, index) => index % Math.ceil(inside.length / most) === 0);
  const shown = inside.length >= 3 ? every : ticks(low, high, most);
  return {type: "log", domain: [low, high], label, text, ticks: shown};
}

function linear(values, label, text) {
  const [low, high] = extent(values), room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  return {type: "linear", domain: [low - room, high + room], label, text, ticks: undefined};
}

// Colours: models as in pictures, lighter on a dark background; more of them than there are colours from small to
// large, dark to the reader's background; the choice in a colour of its own.

const ink = () => (dark.matches ? "#e8e6e1" : "#1d1d1b");
const faint = () => (dark.matches ? "#8f8d88" : "#74726d");
const paper = () => (dark.matches ? "#15171a" : "#fdfcfa");
const halo = () => ({stroke: paper(), strokeWidth: 5, strokeOpacity: 0.85});
const accent = () => (dark.matches ? "#ff9f5a" : "#b8430b");
function colour(part, model) {
  const given = part.models.length <= page.colours.length ? page.colours[model] : undefined;
  if (given) return dark.matches ? `color-mix(in srgb, ${given} 70%, white)` : given;
  const share = part.models.length > 1 ? model / (part.models.length - 1) : 0.7;
  return Plot.interpolateViridis(dark.matches ? 0.4 + 0.55 * share : 0.62 * (1 - share));
}

// A plot is one picture to a screen reader; the names of its marks are not allowed there.
function unlabelled(plot) {
  plot.setAttribute("role", "img");
  for (const mark of plot.querySelectorAll("g[aria-label]")) {
    mark.dataset.mark = mark.getAttribute("aria-label");
    mark.removeAttribute("aria-label");
  }
}

// Moves labels apart along an axis, so that none covers another; each has `value`, and `size` pixels are shared.
function apart(labels, {type, domain}, size) {
  const [low, high] = type === "log" ? domain.map(Math.log) : domain;
  const order = labels.map((label) => {
    const value = type === "log" ? Math.log(label.value) : label.value;
    return {...label, at: ((value - low) / (high - low)) * size};
  }).sort((one, other) => one.at - other.at);
  for (let pass = 0; pass < 60; pass++) {
    for (let index = 1; index < order.length; index++) {
      const overlap = 15 - (order[index].at - order[index - 1].at);
      if (overlap > 0) {
        order[index - 1].at -= overlap / 2;
        order[index].at += overlap / 2;
      }
    }
  }
  return order.map((label) => {
    const value = low + (label.at / size) * (high - low);
    return {...label, value: type === "log" ? Math.exp(value) : value};
  });
}
