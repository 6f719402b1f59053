// Draws the plots of the page and moves what is chosen. All numbers and sentences are in the page's JSON, whose
// schema is in page_schema.py; here they are looked up, never computed. Its parts are drawing.js and tables.js, which
// stand before it in one script; Plot and d3 are in plot.js.

const page = JSON.parse(document.getElementById("data").textContent);
for (const part of page.parts) part.files = rowsOf(part.files);

function rowsOf(columns) {
  const names = Object.keys(columns);
  return (columns[names[0]] ?? []).map((_, index) => Object.fromEntries(names.map((name) => [name, columns[name][index]])));
}

class View {
  constructor(section, part, number) {
    Object.assign(this, {section, part, number});
    [this.time, this.limit] = part.start;
    this.axis = part.axes.some(([axis]) => axis === "training_seconds") ? "training_seconds" : part.axes[0]?.[0];
    this.restore();
    this.points = part.curves.flatMap((curve) =>
      curve.values.map((value, index) => ({
        curve, value, model: curve.model, command: part.commands[curve.command], run: curve.run,
        ...Object.fromEntries(part.axes.map(([axis]) => [axis, curve.columns[axis][index]])),
      })));
    this.controls();
    this.figures = [...section.querySelectorAll("figure[data-plot]")];
    for (const figure of this.figures) this.prepare(figure);
    this.update();
    new ResizeObserver(() => this.draw()).observe(section);
    dark.addEventListener("change", () => this.draw(true));
  }

  // Sliders, and the switch of the curves

  controls() {
    const box = this.section.querySelector(".controls");
    const slider = (name, stops, key) => {
      if (stops.length < 2) return;
      const shown = make("output"), id = `${key}-${this.number}`;
      const input = make("input", {type: "range", id, min: 0, max: stops.length - 1, step: 1, value: this[key]});
      const show = () => {
        shown.value = stops[this[key]].label;
        input.setAttribute("aria-valuetext", stops[this[key]].label);
      };
      input.addEventListener("input", () => {
        this[key] = Number(input.value);
        show();
        this.update();
      });
      show();
      box.append(make("div", {className: "slider"}, make("label", {htmlFor: id}, name), input, shown));
    };
    slider("Training time", this.part.times, "time");
    slider("Bytes of the file, at most", this.part.limits, "limit");
    box.hidden = !box.childElementCount;
    const choice = this.section.querySelector(".axes");
    if (!choice || this.part.axes.length < 2) return;
    for (const [axis] of this.part.axes) {
      const input = make("input", {type: "radio", name: `axis-${this.number}`, value: axis, checked: axis === this.axis});
      input.addEventListener("change", () => {
        this.axis = axis;
        this.draw(true);
      });
      choice.append(make("label", {}, input, make("span", {}, AXES[axis][0])));
    }
    choice.hidden = false;
  }

  get choice() {
    const choices = this.part.choices[this.time] ?? [], limit = this.part.limits[this.limit]?.value ?? 0;
    return choices.findLast((each) => each.limit <= limit * 1.0001);
  }

  update() {
    const {choice, part} = this, answer = this.section.querySelector(".answer");
    const limit = part.limits[this.limit]?.label;
    if (part.choices.length) {
      const none = `No file of a model after ${part.times[this.time].label} of training has ${limit} or less.`;
      const texts = choice ? [choice.head.replace("{limit}", limit), choice.value, choice.against] : [none, "", ""];
      ["head", "value", "against"].forEach((name, index) => {
        answer.querySelector(`.${name}`).textContent = texts[index];
      });
    }
    this.remember();
    this.draw(true);
  }

  // The state is kept in the address, so that a page that is loaded again looks as before.
  remember() {
    const states = new Map(location.hash.slice(1).split(";").filter(Boolean).map((each) => each.split(":")));
    states.set(String(this.number), `${this.time},${this.limit}`);
    const text = [...states].map((each) => each.join(":")).join(";");
    if (this.part.choices.length) history.replaceState(null, "", `#${text}`);
  }

  restore() {
    const state = location.hash.slice(1).split(";").find((each) => each.startsWith(`${this.number}:`));
    if (!state) return;
    const [time, limit] = state.split(":")[1].split(",").map(Number);
    if (this.part.times[time]) this.time = time;
    if (this.part.limits[limit]) this.limit = limit;
  }

  // Figures

  prepare(figure) {
    const kind = figure.dataset.plot;
    const rows = {curves: this.points, sizes: this.part.dense, files: this.part.files}[kind];
    if (!rows.length) return figure.remove();
    const details = make("details", {}, make("summary", {}, `Table of ${rows.length.toLocaleString("en")} points`));
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(table(this.columns(kind), rows));
    });
    figure.append(make("p", {className: "point"}), details);
  }

  columns(kind) {
    const {part} = this, command = ["command", (row) => row.command?.length ? row.command : part.commands[row.command]];
    const model = ["model", (row) => part.models[row.model]], time = ["time", (row) => part.times[row.time].label, (row) => part.times[row.time].value];
    const values = [[`${part.metric}`, (row) => row.value]];
    const between = [["low", (row) => row.low], ["high", (row) => row.high], ["trainings", (row) => row.trainings]];
    if (kind === "curves") {
      const costs = part.axes.map(([axis, label]) => [label, (row) => row[axis]]);
      return [["training", (row) => row.curve.label], ["of", (row) => row.curve.kind], ...costs, ...values, command];
    }
    if (kind === "sizes") return [model, time, ["parameters", (row) => row.parameters], ...values, ...between, command];
    const said = ["measured", (row) => (row.estimated ? "estimated" : "measured")];
    return [model, ["recipe", (row) => row.recipe], time, ["bytes", (row) => Math.round(row.bytes)],
      [part.files_metric, (row) => row.value], ...between, said, command];
  }

  draw(again = false) {
    for (const figure of this.figures) {
      const live = figure.querySelector(".live"), width = Math.round(live.clientWidth);
      if (!figure.isConnected || !width || (!again && width === figure.drawn)) continue;
      figure.drawn = width;
      const plot = this[figure.dataset.plot](width);
      unlabelled(plot);
      plot.addEventListener("input", () => {
        unlabelled(plot);
        if (plot.value) this.show(figure, plot.value);
      });
      live.replaceChildren(plot);
    }
  }

  // What the pointer is at, below the plot, with the command that makes it again.
  show(figure, row) {
    const command = typeof row.command === "number" ? this.part.commands[row.command] : row.command;
    const line = figure.querySelector(".point");
    line.replaceChildren(make("span", {}, this.title(row).replaceAll("\n", " · ")));
    if (row.run) line.append(" ", make("a", {href: row.run}, "its run"));
    if (command) line.append(make("code", {}, command), copier("Copy the command", () => command));
  }

  title(row) {
    const {part} = this;
    if (row.curve) {
      const costs = part.axes.map(([axis]) => `${AXES[axis][1](row[axis])}${axis === "training_seconds" ? "" : ` ${AXES[axis][0]}`}`);
      return `${row.curve.label}\n${digits(row.value)} ${part.metric}\n${costs.join(", ")}`;
    }
    const between = row.low === null ? "" : ` [${digits(row.low)}, ${digits(row.high)}]`;
    const trainings = row.trainings ? `${row.trainings} training${row.trainings === 1 ? "" : "s"}` : "predicted";
    const metric = row.recipe ? part.files_metric : part.metric, after = `after ${part.times[row.time].label}, ${trainings}`;
    const what = row.recipe ? `, ${row.recipe}` : "", size = row.recipe ? `${fileSize(row.bytes)}, ` : "";
    return `${part.models[row.model]}${what}\n${row.estimated ? "about " : ""}${digits(row.value)}${between} ${metric}\n${size}${after}`;
  }

  // The three plots

  plot(width, label, {x, y, marginRight}, marks) {
    const size = {width, height: this.height(width), marginLeft: 52, marginBottom: 44, marginTop: 24, ariaLabel: label};
    const style = {fontSize: "12px", color: ink(), background: "transparent", overflow: "visible"};
    const axis = ({ticks, text, label}) => [...(ticks ? [ticks] : []), {...(ticks ? {text} : {ticks: 6}), label, labelArrow: "none"}];
    const scales = [x, y].map(({type, domain}) => ({type, domain}));
    const axes = [Plot.axisX(...axis(x)), Plot.axisY(...axis(y))];
    return Plot.plot({...size, marginRight, style, x: scales[0], y: scales[1], marks: [...axes, ...marks.flat().filter(Boolean)]});
  }

  height(width) {
    return Math.round(Math.max(280, Math.min(400, width * 0.66)));
  }

  scale(rows, metric, gate) {
    const values = rows.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
    if (gate !== null) values.push(gate);
    const [low, high] = extent(values), logs = this.part.logarithmic && low > 0 && high / low > 1.3;
    const label = `${metric} (${this.part.higher_is_better ? "higher" : "lower"} is better)`;
    return logs ? logarithmic(values, label, digits, 8) : linear(values, label, digits);
  }

  gate(value, x) {
    if (value === null) return [];
    const said = {x, y: value, text: () => this.part.gate_name, textAnchor: "start", dy: -8, fill: faint(), ...halo()};
    return [Plot.ruleY([value], {stroke: faint(), strokeDasharray: "4 4"}), Plot.text([value], said)];
  }

  // A box on a narrow page would cover the plot: its text is below.
  pointer(rows, x, width) {
    if (width < 480) return Plot.dot(rows, Plot.pointer({x, y: "value", r: 6, stroke: ink(), maxRadius: 60}));
    const look = {fill: dark.matches ? "#26282c" : "#fff", stroke: faint(), fontSize: 12, lineWidth: 26, maxRadius: 60};
    return Plot.tip(rows, Plot.pointer({x, y: "value", title: (row) => this.title(row), ...look}));
  }

  ring(rows, x) {
    return Plot.dot(rows, {x, y: "value", r: 8, stroke: accent(), strokeWidth: 2.5});
  }

  curves(width) {
    const {part, axis, choice} = this, x = axis;
    const rows = this.points, y = this.scale(rows, `${part.metric} on ${part.trained_on}`, part.gate);
    const xs = rows.map((row) => row[x]), [name, format] = AXES[x];
    const scale = logarithmic(xs, `${name}${x === "training_seconds" ? "" : " (logarithmic)"} →`, format, width / 90, {times: x === "training_seconds"});
    const chosen = (row) => choice === undefined || row.model === choice.model;
    const stroke = (row) => colour(part, row.model);
    const line = {x, y: "value", z: (row) => row.curve, stroke};
    const trunks = rows.filter((row) => row.curve.kind === "trunk"), others = rows.filter((row) => row.curve.kind !== "trunk");
    const ends = new Map();
    for (const row of others.length ? others : rows) ends.set(row.model, row);
    let labels = [...ends.values()].map((row) => ({value: row.value, model: row.model, end: row[x]}));
    const sign = part.higher_is_better ? -1 : 1;
    if (labels.length > 14) labels = labels.sort((one, other) => sign * (one.value - other.value)).slice(0, 6);
    labels = apart(labels, y, this.height(width) - 68);
    const room = Math.floor(Math.min(26, width / 25));
    const longest = Math.min(room, Math.max(...labels.map((label) => part.models[label.model].length)));
    const time = part.times[this.time], said = {x: "end", y: "value", textAnchor: "start", fill: ink(), ...halo()};
    const short = ({model}) => (part.models[model].length > room ? `${part.models[model].slice(0, room - 1)}…` : part.models[model]);
    return this.plot(width, `Learning curves: ${part.metric} over ${name}`, {x: scale, y, marginRight: 30 + 7 * longest}, [
      this.gate(part.gate, extent(xs)[0]),
      x === "training_seconds" && time?.value && Plot.ruleX([time.value], {stroke: accent(), strokeOpacity: 0.6}),
      Plot.lineY(trunks, {...line, strokeWidth: 1.5, strokeDasharray: "1 4", strokeLinecap: "round"}),
      Plot.lineY(others, {...line, strokeWidth: 1.75, strokeOpacity: 0.9}),
      others.length < 500 && Plot.dot(others, {x, y: "value", r: 2.75, fill: stroke}),
      choice && Plot.lineY(others.filter(chosen), {...line, strokeWidth: 3.5}),
      Plot.dot(labels, {x: "end", y: "value", dx: 12, r: 4, fill: stroke}),
      Plot.text(labels, {...said, dx: 20, text: short, fontWeight: (label) => (choice?.model === label.model ? 700 : 400)}),
      this.pointer(rows, x, width),
    ]);
  }

  sizes(width) {
    const {part, choice} = this, x = "parameters";
    const rows = part.dense.filter((row) => row.parameters !== null), now = rows.filter((row) => row.time === this.time);
    const y = this.scale(rows, `${part.metric} on ${part.trained_on}`, part.gate);
    const scale = logarithmic(rows.map((row) => row[x]), "parameters (logarithmic) →", powers, width / 70, {room: 1.3});
    const ends = part.times.map((_, time) => rows.filter((row) => row.time === time).at(-1)).filter(Boolean);
    const labels = apart(ends.map((row) => ({value: row.value, time: row.time, end: row[x]})), y, this.height(width) - 68);
    const line = {x, y: "value", z: "time"}, bold = (label) => (label.time === this.time ? 700 : 400);
    const above = {x, y: "value", text: (row) => part.models[row.model], dy: -14, fill: ink(), fontWeight: 600, ...halo()};
    return this.plot(width, `${part.metric} over the size of models, after ${part.times[this.time].label}`, {x: scale, y, marginRight: 64}, [
      this.gate(part.gate, extent(rows.map((row) => row[x]))[0]),
      Plot.lineY(rows, {...line, stroke: faint(), strokeOpacity: 0.45}),
      Plot.lineY(now, {...line, stroke: ink(), strokeWidth: 2}),
      Plot.ruleX(now.filter((row) => row.low !== null), {x, y1: "low", y2: "high", stroke: ink()}),
      Plot.dot(rows, {x, y: "value", r: 2.5, fill: faint()}),
      Plot.dot(now, {x, y: "value", r: 4.5, fill: (row) => colour(part, row.model)}),
      this.ring(now.filter((row) => row.model === choice?.model), x),
      part.models.length < 14 && Plot.text(now, above),
      Plot.text(labels, {x: "end", y: "value", text: (label) => part.times[label.time].label, textAnchor: "start", dx: 14, ...halo(),
        fill: (label) => (label.time === this.time ? accent() : faint()), fontWeight: bold}),
      this.pointer(rows, x, width),
    ]);
  }

  files(width) {
    const {part, choice} = this, x = "bytes", limit = part.limits[this.limit]?.value;
    const passes = (row) => part.files_gate === null || (part.higher_is_better ? row.value > part.files_gate : row.value < part.files_gate);
    const every = part.files.filter(passes), rows = every.filter((row) => row.time === this.time);
    const now = rows.length ? rows : part.files.filter((row) => row.time === this.time);
    const y = this.scale(every.length ? every : part.files, part.files_metric, null);
    const scale = logarithmic(part.files.map((row) => row[x]), "bytes of the file (logarithmic) →", fileSize, width / 85, {room: 1.2});
    const best = now.filter((row) => row.frontier).sort((one, other) => one[x] - other[x]);
    const ends = new Map();
    for (const row of now) if (row.candidate && row[x] >= (ends.get(row.model)?.[x] ?? 0)) ends.set(row.model, row);
    const fill = (row) => colour(part, row.model), chosen = part.files[choice?.file];
    const ofModels = now.filter((row) => row.candidate && !/pruned/.test(row.recipe)).sort((one, other) => one[x] - other[x]);
    const others = now.filter((row) => !row.candidate || row.estimated), measured = now.filter((row) => row.candidate && !row.estimated);
    const dropped = part.files.filter((row) => row.time === this.time).length - now.length;
    this.say("files", [
      now.some((row) => row.estimated) && part.estimates,
      now.some((row) => !row.candidate) && "Small open circles were trained for longer or on other data, and are not chosen from.",
      dropped && `${dropped} ${dropped === 1 ? "file that is" : "files that are"} no better than the ${part.gate_name || "gate"}: in the table only.`,
    ]);
    return this.plot(width, `${part.files_metric} over bytes of the file`, {x: scale, y, marginRight: 28}, [
      limit && Plot.ruleX([limit], {stroke: accent(), strokeOpacity: 0.6}),
      limit && Plot.text([limit], {x: limit, text: () => "limit", frameAnchor: "top", textAnchor: "start", dx: 5, fill: accent(), ...halo()}),
      part.models.length < 14 && Plot.lineY(ofModels, {x, y: "value", z: "model", stroke: fill, strokeOpacity: 0.45}),
      Plot.lineY(best, {x, y: "value", curve: "step-after", stroke: ink(), strokeWidth: 1.5}),
      Plot.dot(others, {x, y: "value", r: (row) => (row.candidate ? 4 : 2.5), stroke: fill, strokeWidth: 1.5}),
      Plot.dot(measured, {x, y: "value", r: 4.5, fill}),
      part.models.length < 14 && Plot.text([...ends.values()], {x, y: "value", text: (row) => part.models[row.model], dy: -14, fill: ink(), ...halo()}),
      chosen && this.ring(passes(chosen) || !rows.length ? [chosen] : [], x),
      this.pointer(now, x, width),
    ]);
  }

  say(kind, texts) {
    const note = this.figures.find((figure) => figure.dataset.plot === kind).querySelector(".note");
    if (note) note.textContent = texts.filter(Boolean).join(" ");
  }
}

document.documentElement.classList.replace("static-only", "scripted");
for (const whole of document.querySelectorAll("table.rows")) {
  sortable(whole);
  whole.closest("details").querySelector("summary").after(copier("Copy the table", () => tabbed(whole)));
}
document.querySelectorAll("section.part").forEach((section, number) => new View(section, page.parts[number], number));
