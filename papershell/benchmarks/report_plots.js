// ---- the roofline: log-log, so a bandwidth is a line of slope 1 and a rate a flat one

function logScale(values, from, to) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const scale = value => from + (Math.log10(value) - low) / (high - low) * (to - from);
  const step = Math.ceil((high - low) / 8);
  scale.ticks = Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => 10 ** (low + i * step));
  return Object.assign(scale, { low: 10 ** low, high: 10 ** high, perDecade: (to - from) / (high - low) });
}

function logAxes(x, y, width, height, margin, [across, up]) {
  const axes = svg("g");
  const tick = value => value >= 1e5 || value < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(1)));
  for (const value of x.ticks) axes.append(
    svg("line", { class: "grid", x1: x(value), x2: x(value), y1: margin.top, y2: height - margin.bottom }),
    svg("text", { x: x(value), y: height - margin.bottom + 15, "text-anchor": "middle" }, tick(value)));
  for (const value of y.ticks) axes.append(
    svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
    svg("text", { x: margin.left - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
  axes.append(
    svg("text", { x: (margin.left + width - margin.right) / 2, y: height - 6, "text-anchor": "middle" }, across),
    svg("text", { x: margin.left, y: 11, "text-anchor": "start" }, up));
  return axes;
}

function bandwidthRoofs(x, y, bandwidths, top) {
  const slope = Math.atan2(y.perDecade, x.perDecade);
  let above = Infinity;  // the line above: where it is too near, a name goes below its own line
  return [...bandwidths].sort((a, b) => b.value - a.value).flatMap(({ name, value }) => {
    const start = Math.max(x.low, y.low / value), end = Math.min(x.high, top / value);
    if (start >= end) return [];
    const apart = Math.log10(above / value) * Math.abs(y.perDecade) * Math.cos(slope);
    above = value;
    const place = `translate(${x(start)} ${y(start * value)}) rotate(${slope * 180 / Math.PI})`;
    return [
      svg("line", { class: "roof", x1: x(start), y1: y(start * value), x2: x(end), y2: y(end * value) }),
      svg("text", { class: "roof-name", transform: place, x: 10, y: apart < 14 ? 13 : -4 }, `${name} ${number(value)} GB/s`)];
  });
}

function rateRoofs(x, y, rates, bandwidth) {
  let above = Infinity;  // names of neighbouring rates may not overlap
  return [...rates].sort((a, b) => a.value - b.value).flatMap(({ name, value }) => {
    const start = Math.min(x.high, Math.max(x.low, value / bandwidth));
    above = Math.min(y(value) - 5, above - 13);
    return [
      svg("line", { class: "roof", x1: x(start), y1: y(value), x2: x(x.high), y2: y(value) }),
      svg("text", { class: "roof-name", x: x(x.high) - 4, y: above, "text-anchor": "end" }, `${name} ${number(value)} GFLOP/s`)];
  });
}

function rooflinePoint({ c, intensity, rate }, x, y) {
  const text = [`${c.group}: ${c.case}`, `${number(intensity)} flop/byte · ${number(rate)} GFLOP/s · ${time(c.stats.median)}`,
    present(c.percent_of_ceiling) ? `${percent(c.percent_of_ceiling)} of ${c.ceiling}` : ""].join("\n").trim();
  const circle = svg("circle", { class: "point", cx: x(intensity), cy: y(rate), r: 5 });
  circle.style.stroke = colour(c.backend);
  circle.style.fill = c.is_reference ? "var(--surface)" : colour(c.backend);
  const name = svg("text", { class: "point-name" }, c.case);
  const link = svg("a", { href: `#case-${c.index}` }, svg("title", {}, text), circle, name);
  c.drawn.push(link);
  return link;
}

const LETTER = 6.2, LINE = 12;  // pixels of the plots' text, about

function nameWithoutOverlap(links, roofs, width) {  // names that find no room show under the pointer only
  const taken = roofs.map(drawn => drawn.getBBox()).map(box => [box.x, box.y, box.x + box.width, box.y + box.height]);
  const free = ([left, top, right, bottom]) =>
    left >= 0 && right <= width && !taken.some(box => left < box[2] && box[0] < right && top < box[3] && box[1] < bottom);
  for (const link of links) {
    const circle = link.querySelector("circle"), name = link.querySelector("text");
    const x = Number(circle.getAttribute("cx")), y = Number(circle.getAttribute("cy"));
    const long = LETTER * name.textContent.length;
    const places = [[x + 9, y - 6, "start"], [x - 9 - long, y - 6, "end"], [x + 9, y + 8, "start"], [x + 9, y - 20, "start"]];
    const place = places.find(([left, top]) => free([left, top, left + long, top + LINE]));
    const [left, top, anchor] = place ?? (x + 9 + long > width ? places[1] : places[0]);
    build(name, { x: anchor === "end" ? left + long : left, y: top + LINE - 2, "text-anchor": anchor }, []);
    if (place) taken.push([left, top, left + long, top + LINE]); else link.setAttribute("class", "crowded");
  }
}

const drawable = value => value > 0 && Number.isFinite(value);

function rooflinePoints() {
  return cases
    .map(c => ({ c, intensity: c.flops / c.bytes, rate: c.GFLOP_per_s ?? c.flops / c.stats.median / 1e9 }))
    .filter(({ intensity, rate }) => drawable(intensity) && drawable(rate));
}

function showRoofline() {
  const box = byId("roofline"), points = rooflinePoints();
  if (!points.length) {
    box.append(html("div", { class: "legend" }, "No case of this run counts both bytes and flops."));
    return;
  }
  const ceilings = Object.entries(machine.ceilings ?? {}).map(([name, ceiling]) => ({ name, ...ceiling }));
  const bandwidths = ceilings.filter(({ name, value, unit: of }) => of === "GB/s" && name.startsWith("copy") && !name.endsWith("new pages") && drawable(value));
  const rates = ceilings.filter(({ value, unit: of }) => of === "GFLOP/s" && drawable(value));
  const width = Math.max(330, box.clientWidth), height = Math.min(470, Math.max(360, width * 0.5));
  const margin = { left: 52, right: 24, top: 20, bottom: 42 };
  const ridges = rates.flatMap(rate => bandwidths.map(roof => rate.value / roof.value));
  const x = logScale([...points.map(point => point.intensity), ...ridges], margin.left, width - margin.right);
  const y = logScale([...points.map(point => point.rate), ...rates.map(rate => rate.value)], height - margin.bottom, margin.top);
  const links = points.map(point => rooflinePoint(point, x, y));
  const legend = html("div", { class: "legend" });
  for (const backend of backends.filter(name => points.some(({ c }) => c.backend === name)))
    legend.append(html("span", {}, dot(backend), backend));
  box.append(legend, svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "roofline plot" },
    logAxes(x, y, width, height, margin, ["flop per byte", "GFLOP/s"]),
    ...bandwidthRoofs(x, y, bandwidths, rates.length ? Math.max(...rates.map(rate => rate.value)) : y.high),
    ...rateRoofs(x, y, rates, Math.max(...bandwidths.map(roof => roof.value), 0)),
    ...links));
  const flat = line => line.getAttribute("y1") === line.getAttribute("y2");
  const lines = [...box.querySelectorAll(".roof")].filter(flat);
  nameWithoutOverlap(links, [...lines, ...box.querySelectorAll(".roof-name:not([transform])")], width);
}

// ---- size against time: a plot for each benchmark and each number among its parameters

const SIZES = { width: 360, height: 240, left: 50, right: 14, top: 20, bottom: 40 };

function groupBy(items, key) {
  return [...items.reduce((groups, item) => groups.set(key(item), [...groups.get(key(item)) ?? [], item]), new Map())];
}

function sizePlots() {
  const timed = cases.filter(c => drawable(c.stats.median));
  return groupBy(timed, c => c.fullname.split("[")[0]).flatMap(([, ofTest]) => {
    const names = [...new Set(ofTest.flatMap(c => Object.keys(c.params)))];
    const sizes = names.filter(name => ofTest.every(c => typeof c.params[name] === "number" && drawable(c.params[name])));
    return sizes.flatMap(name => {
      const others = c => names.filter(other => other !== name && c.params[other] !== c.case);
      return groupBy(ofTest, c => others(c).map(other => `${other} ${c.params[other]}`).join(", "))
        .filter(([, found]) => groupBy(found, c => c.case).some(([, line]) => new Set(line.map(c => c.params[name])).size > 1))
        .map(([facet, found]) => ({ name, facet, found, title: found[0].group }));
    });
  });
}

function sizeLines({ name, found }, x, y) {
  return groupBy(found, c => c.case).flatMap(([label, points]) => {
    const sorted = [...points].sort((a, b) => a.params[name] - b.params[name]);
    const place = c => [x(c.params[name]), y(c.stats.median)];
    const stroke = sorted[0].backend ? colour(sorted[0].backend) : "var(--muted)";
    const path = svg("path", { class: "series", d: `M ${sorted.map(c => place(c).join(" ")).join(" L ")}` });
    path.style.stroke = stroke;
    if (sorted[0].is_reference) path.setAttribute("stroke-dasharray", "5 3");
    return [path, ...sorted.map(c => {
      const [cx, cy] = place(c);
      const circle = svg("circle", { class: "point", cx, cy, r: 3.2 });
      circle.style.fill = circle.style.stroke = stroke;
      return svg("a", { href: `#case-${c.index}` }, svg("title", {}, `${label}\n${name} ${c.params[name]}: ${time(c.stats.median)}`), circle);
    })];
  });
}

function showSizes() {
  const plots = sizePlots();
  byId("sizes").hidden = !plots.length;
  const { width, height, ...margin } = SIZES;
  byId("sizes").querySelector(".plots").append(...plots.map(plot => {
    const x = logScale(plot.found.map(c => c.params[plot.name]), margin.left, width - margin.right);
    const y = logScale(plot.found.map(c => c.stats.median), height - margin.bottom, margin.top);
    const caption = html("figcaption", {}, html("span", {}, plot.title, " ", ...small(plot.facet)));
    const legend = html("div", { class: "legend" });
    for (const [label, [first]] of groupBy(plot.found, c => c.case))
      legend.append(html("span", {}, first.backend ? dot(first.backend) : "┄ ", label));
    return html("figure", { class: "panel" }, caption, svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `time over ${plot.name}` }, logAxes(x, y, width, height, margin, [plot.name, "seconds"]), ...sizeLines(plot, x, y)), legend);
  }));
}

// ---- history, of more than one run: one small chart per case, the ratio over the runs of this machine

const CHART = { width: 280, height: 112, left: 36, right: 26, top: 8, bottom: 20 };

const hasHistory = () => page.history.runs.length > 1;

function recordedRatios(c) {
  return page.history.ratios[c.index].flatMap((recorded, at) => {
    if (!recorded) return [];
    const [value, low, high] = recorded;
    return [{ run: page.history.runs[at], at, value, low: low ?? value, high: high ?? value }];
  });
}

function ratioScale(points) {
  const last = points.at(-1).value;  // at least 10 % up and down, so that noise looks like noise
  const low = Math.min(last * 0.9, ...points.map(point => point.low));
  const high = Math.max(last * 1.1, ...points.map(point => point.high));
  const bottom = CHART.height - CHART.bottom;
  const scale = value => bottom - (value - low) / (high - low || 1) * (bottom - CHART.top);
  return Object.assign(scale, { low, high });
}

function unbroken(points) {
  return points.reduce((pieces, point) => {
    const piece = pieces.at(-1);
    if (piece && piece.at(-1).at === point.at - 1) piece.push(point); else pieces.push([point]);
    return pieces;
  }, []);
}

function historyTitle({ run, value, low, high }) {
  const commit = short(run.commit) + (run.dirty ? ", uncommitted changes" : "");
  return `${commit}\n${when(run.datetime)}\n${ratio(value)} (${interval(low, high)})`;
}

function ratioAxes(x, y, runs) {
  const axes = svg("g");
  const across = (className, value) =>
    svg("line", { class: className, x1: CHART.left, x2: CHART.width - 8, y1: y(value), y2: y(value) });
  for (const value of [y.low, (y.low + y.high) / 2, y.high]) axes.append(
    across("grid", value), svg("text", { x: CHART.left - 4, y: y(value) + 3, "text-anchor": "end" }, number(value)));
  if (y.low < 1 && y.high > 1) axes.append(across("one", 1));
  const every = Math.ceil(runs.length / 4);
  for (let at = runs.length - 1; at >= 0; at -= every) axes.append(
    svg("text", { x: x(at), y: CHART.height - 5, "text-anchor": "middle" }, short(runs[at].commit).slice(0, 7)));
  return axes;
}

function historyChart(points) {
  const { runs } = page.history, y = ratioScale(points);
  const from = CHART.left + 14, to = CHART.width - CHART.right;
  const x = at => runs.length === 1 ? (from + to) / 2 : from + at / (runs.length - 1) * (to - from);
  const path = (piece, key) => piece.map(point => `${x(point.at)} ${y(point[key])}`).join(" L ");
  const lines = unbroken(points).flatMap(piece => [
    svg("path", { class: "band", d: `M ${path(piece, "high")} L ${path([...piece].reverse(), "low")} Z` }),
    svg("path", { class: "line", d: `M ${path(piece, "value")}` })]);
  const marks = points.map(point =>
    svg("circle", { class: point.run.dirty ? "mark dirty" : "mark", cx: x(point.at), cy: y(point.value), r: 2.6 },
      svg("title", {}, historyTitle(point))));
  return svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": "speed-up over the recorded runs" },
    ratioAxes(x, y, runs), ...lines, ...marks);
}

const SLOWER = 1.03;

function bisectHint(c, points) {  // if the last run's interval lies below that of the run before
  const [before, last] = points.slice(-2);
  if (c.is_reference || !last || before.low <= SLOWER * last.high || before.run.commit === last.run.commit) return [];
  const words = new Set(c.fullname.split("::").at(-1).match(/\w+/g) ?? []);
  const select = [...words].filter(word => !["and", "or", "not"].includes(word)).join(" and ");
  const command = `papershell bench bisect ${short(before.run.commit)} ${short(last.run.commit)} --select "${select}"`;
  return [html("p", { class: "hint" }, "slower than in ", commitLink(before.run.commit), ": ", html("code", {}, command))];
}

const FEW_NAMES = 8;

function listed(names, title) {  // a long list is folded, or it would push the charts away
  const text = `${names.join("; ")}.`;
  if (!names.length) return [];
  return names.length <= FEW_NAMES ? [html("p", {}, `${title}: ${text}`)]
    : [html("details", {}, html("summary", {}, `${title}: ${count(names.length, "case")}`), text)];
}

function historyNotes() {
  const { runs, machines } = page.recorded;
  const others = machines > 1 ? ` (${runs} runs of ${machines} machines are recorded)` : "";
  const vanished = page.vanished.map(gone => `${gone.case} (last in ${short(gone.last_seen)})`);
  return [html("p", {}, `Speed-up over the reference with its 95 % interval in ${count(page.history.runs.length, "recorded run")}`
    + ` of this machine${others}; hollow: uncommitted changes. Every axis spans at least ±10 %.`),
    ...listed(page.new, "New in this run"), ...listed(vanished, "Not in this run")];
}

function showHistory() {
  byId("history").hidden = !hasHistory();
  if (!hasHistory()) return;
  byId("recorded").append(...historyNotes());
  for (const c of cases) {
    const points = recordedRatios(c);
    if (!points.length) continue;
    const name = html("a", { href: `#case-${c.index}` }, html("small", {}, c.group), html("br"), c.case, ...small(paramsOf(c) && ` ${paramsOf(c)}`));
    const figure = html("figure", { id: `history-${c.index}`, class: "panel" },
      html("figcaption", {}, name, html("b", {}, ...shown(c.ratio, ratio))), ...bisectHint(c, points));
    c.drawn.push(figure);
    byId("charts").append(figure);
    drawWhenSeen(figure, () => figure.firstChild.after(historyChart(points)));
  }
}

const FEW = 20000;  // points that are drawn at once; of more, each chart is when it comes near the window
const waiting = new Map();
const observer = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) drawNow(target);
}, { rootMargin: "1000px" });

function drawWhenSeen(figure, draw) {
  if (cases.length * page.history.runs.length <= FEW) return draw();
  waiting.set(figure, draw);
  figure.classList.add("waiting");
  observer.observe(figure);
}

function drawNow(figure) {
  observer.unobserve(figure);
  figure.classList.remove("waiting");
  waiting.get(figure)?.();
  waiting.delete(figure);
}

window.addEventListener("beforeprint", () => [...waiting.keys()].forEach(drawNow));
