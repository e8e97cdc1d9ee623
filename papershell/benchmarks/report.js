"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const machine = page.run.machine_info.papershell;
const groups = [...new Set(page.run.benchmarks.map(benchmark => benchmark.group))];
const cases = page.run.benchmarks.map((benchmark, index) => ({
  ...benchmark.extra_info, index, stats: benchmark.stats, group: benchmark.group, fullname: benchmark.fullname,
  params: benchmark.params ?? {}, change: null,
  case: benchmark.extra_info.case || benchmark.name,
  drawn: [],  // its row, its point and its chart, which the filter hides together
})).sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group));
const byId = id => document.getElementById(id);

// ---- elements: text only ever becomes a text node, so no name can turn into markup

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const html = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// ---- numbers: three significant digits and a unit

const present = value => value !== null && value !== undefined;

function number(value, like = value) {  // with as many decimals as `like` would get
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(like || value)));
  if (exponent < -3 || exponent > 6) return value.toExponential(2);
  return exponent < 2 ? value.toFixed(2 - exponent) : value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ",");
}

function time(seconds) {
  const [unit, scale] = seconds >= 1 ? ["s", 1] : seconds >= 1e-3 ? ["ms", 1e3] : seconds >= 1e-6 ? ["µs", 1e6] : ["ns", 1e9];
  return `${number(seconds * scale)} ${unit}`;
}
const ratio = value => `${number(value)}×`;
const percent = value => `${value.toFixed(1)} %`;
const interval = (low, high) => present(low) && present(high) ? `${number(low)} – ${number(high, low)}` : "";
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const unit = text => text === "us" ? "µs" : text;
const signed = share => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)} %`;
const short = commit => /^[0-9a-f]{40}$/.test(commit) ? commit.slice(0, 7) : commit;
const when = text => text.replace("T", " ").replace(/(:\d\d)[.]\d+/, "$1").replace("+00:00", " UTC");

// ---- back ends keep one colour in the table and in the plot; the rarest share the last

const COLOURS = 8;
const backends = [...cases.reduce((count, c) => count.set(c.backend, (count.get(c.backend) ?? 0) + 1), new Map())]
  .filter(([name]) => name).sort((a, b) => b[1] - a[1]).map(([name]) => name);
const colour = backend => `var(--c${Math.min(Math.max(backends.indexOf(backend), 0), COLOURS - 1)})`;

function dot(backend) {
  const element = html("span", { class: "dot" });
  element.style.background = colour(backend);
  return element;
}

// ---- head of the page

function commitLink(id) {  // to the commit's page, if the run says in which repository it lies
  const { url } = page.run.commit_info;
  return typeof url === "string" && url.startsWith("https://") && /^[0-9a-f]{40}$/.test(id)
    ? html("a", { href: `${url}/commit/${id}`, rel: "noreferrer" }, short(id)) : short(id);
}

function showCommit() {
  const { id, dirty, branch } = page.run.commit_info;
  byId("commit").append(when(page.run.datetime), "  ·  ", html("span", { class: "commit", title: id }, commitLink(id)),
    branch ? ` on ${branch}` : "", ...dirty ? [" ", html("span", { class: "tag dirty" }, "uncommitted changes")] : []);
  document.title = `papershell benchmarks, ${short(id)}`;
}

function showMachine() {
  const { gpu } = machine;
  const joined = (...parts) => parts.filter(Boolean).join(" · ");
  const facts = {
    CPU: joined(machine.cpu, count(machine.cores, "core"), machine.clock_MHz && `${number(machine.clock_MHz)} MHz`),
    Memory: `${number(machine.memory_GB)} GB`,
    GPU: gpu && joined(gpu.name, gpu.memory_GB && `${number(gpu.memory_GB)} GB`, gpu.clock_MHz && `${number(gpu.clock_MHz)} MHz`,
      gpu.power_limit_W && `${number(gpu.power_limit_W)} W`, gpu.driver && `driver ${gpu.driver}`),
    Libraries: joined(...Object.entries(machine.libraries ?? {}).map(([name, version]) => `${name} ${version}`)),
  };
  const list = html("dl");
  for (const [name, text] of Object.entries(facts)) if (text) list.append(html("dt", {}, name), html("dd", {}, text));
  const ceilings = html("dl", { class: "ceilings" });
  for (const [name, { value, unit: of }] of Object.entries(machine.ceilings ?? {}))
    ceilings.append(html("div", {}, html("dt", {}, name), html("dd", {}, `${number(value)} ${unit(of)}`)));
  byId("machine").append(html("div", {}, html("h2", {}, "Machine ", html("code", {}, machine.id)), list));
  if (ceilings.children.length) byId("machine").append(html("div", {}, html("h2", {}, "Ceilings measured in this run"), ceilings));
}

// ---- the table: value() sorts, cell() shows

const small = text => text ? [html("small", {}, text)] : [];
const shown = (value, format, ...more) => present(value) ? [format(value), ...more] : [];
const sizesOf = c => Object.entries(c.params).filter(([, value]) => typeof value === "number").map(parts => parts.join(" ")).join(", ");
const twins = new Map(groupBy(cases, c => JSON.stringify([c.group, c.case])));
const paramsOf = c => twins.get(JSON.stringify([c.group, c.case])).length < 2 ? "" : Object.entries(c.params)
  .filter(([, value]) => ["number", "string"].includes(typeof value) && value !== c.case).map(parts => parts.join(" ")).join(", ");
const historyLink = c => hasHistory() && recordedRatios(c).length
  ? html("a", { href: `#history-${c.index}` }, c.case) : html("span", {}, c.case);

function timeCell(c) {
  const cold = present(c.cold_s) && `cold L2 ${time(c.cold_s)}`;
  const host = present(c.host_s) && `host ${time(c.host_s)}`;
  return [time(c.stats.median), ...spread(c.stats), ...small(cold), ...small(host)];
}

const SPREAD = [0.8, 1.5];  // of the median, on which the spread is drawn: the same for all rows

function spread({ median, min, q1, q3, max, rounds }) {
  if (!(rounds > 1) || ![median, min, q1, q3, max].every(Number.isFinite)) return [];
  const at = value => 100 * Math.min(Math.max((value / median - SPREAD[0]) / (SPREAD[1] - SPREAD[0]), 0), 1);
  const bar = (tag, from, to) => {
    const element = html(tag);
    element.style.left = `${at(from)}%`;
    element.style.width = `${at(to) - at(from)}%`;
    return element;
  };
  return [html("span", { class: "spread", title: `${time(min)} to ${time(max)}, half of the rounds ${time(q1)} to ${time(q3)}` },
    bar("i", min, max), bar("b", q1, q3))];
}

const bytes = value => {
  const [unit, scale] = value >= 1e9 ? ["GB", 1e9] : value >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${number(value / scale)} ${unit}`;
};
const faults = c => present(c.page_faults) && `${c.page_faults >= 1e4 ? number(c.page_faults) : c.page_faults} page faults`;

function ceilingCell(c) {
  if (!present(c.percent_of_ceiling)) return [];
  const fill = html("i");
  fill.style.width = `${Math.min(c.percent_of_ceiling, 100)}%`;
  const meter = html("span", { class: "meter" }, fill);
  const line = html("span", { class: "percent" }, meter, html("span", {}, percent(c.percent_of_ceiling)));
  return [line, ...small(c.ceiling && `of ${c.ceiling}`)];
}

const COLUMNS = [
  { title: "Benchmark", kind: "text group", value: c => c.group, cell: c => [c.group] },
  { title: "Case", kind: "text case", value: c => c.case,
    cell: c => [historyLink(c), ...c.is_reference ? [" ", html("span", { class: "tag" }, "ref")] : [], ...small(sizesOf(c))] },
  { title: "dtype", kind: "trait", value: c => c.dtype, cell: c => shown(c.dtype, String) },
  { title: "Back end", kind: "trait", value: c => c.backend, cell: c => c.backend ? [dot(c.backend), c.backend] : [] },
  { title: "Device", kind: "trait", value: c => c.device, cell: c => shown(c.device, String) },
  { title: "Time", kind: "number", value: c => c.stats.median, cell: timeCell },
  { title: "Speed-up", kind: "number", value: c => c.ratio,
    cell: c => shown(c.ratio, ratio, ...small(interval(c.ratio_low, c.ratio_high))) },
  { title: "Change", kind: "number change", value: c => c.change?.slower, cell: changeCell },
  { title: "GB/s", kind: "number", value: c => c.GB_per_s, cell: c => shown(c.GB_per_s, number) },
  { title: "GFLOP/s", kind: "number", value: c => c.GFLOP_per_s, cell: c => shown(c.GFLOP_per_s, number) },
  { title: "% of ceiling", kind: "number", value: c => c.percent_of_ceiling, cell: ceilingCell },
  { title: "Error vs float64", kind: "number", value: c => c.error, cell: c => shown(c.error, number) },
  { title: "First call", kind: "number", value: c => c.first_call_s, cell: c => shown(c.first_call_s, time) },
  { title: "Memory", kind: "number", value: c => c.peak_bytes, cell: c => shown(c.peak_bytes, bytes, ...small(faults(c))) },
];

// ---- two runs: how the ratios differ from those of an earlier one

function changeCell({ change }) {
  if (!change) return [];
  return [signed(change.slower), html("small", {}, `${signed(change.low)} to ${signed(change.high)}`)];
}

function compareWith(at) {
  document.querySelector("table").classList.toggle("comparing", at !== "");
  for (const c of cases) {
    const before = at === "" || c.is_reference ? null : page.history.ratios[c.index][at];
    const [old, low, high] = before ?? [];
    c.change = present(old) && present(c.ratio) && c.ratio > 0
      ? { slower: old / c.ratio - 1, low: (low ?? old) / (c.ratio_high ?? c.ratio) - 1, high: (high ?? old) / (c.ratio_low ?? c.ratio) - 1 }
      : null;
    const content = changeCell(c);
    byId(`case-${c.index}`).querySelector(".change").replaceChildren(...content.length ? content : ["–"]);
  }
}

function showCompare() {
  const earlier = page.history.runs.slice(0, -1);
  byId("compare").hidden = !earlier.length;
  byId("against").append(...earlier.map(({ commit, dirty, datetime }, at) =>
    html("option", { value: at }, `${short(commit)}${dirty ? "*" : ""}, ${when(datetime)}`)).reverse());
  byId("against").addEventListener("change", event => compareWith(event.target.value));
}

// ---- export: the visible rows, in their order

const FIELDS = {
  group: c => c.group, case: c => c.case, dtype: c => c.dtype, backend: c => c.backend, device: c => c.device,
  seconds: c => c.stats.median, q1_s: c => c.stats.q1, q3_s: c => c.stats.q3, rounds: c => c.stats.rounds,
  ratio: c => c.ratio, ratio_low: c => c.ratio_low, ratio_high: c => c.ratio_high,
  GB_per_s: c => c.GB_per_s, GFLOP_per_s: c => c.GFLOP_per_s, ceiling: c => c.ceiling, percent_of_ceiling: c => c.percent_of_ceiling,
  error: c => c.error, first_call_s: c => c.first_call_s, peak_bytes: c => c.peak_bytes, page_faults: c => c.page_faults,
};
const QUOTED = /[",\n\r]/;

function csvCell(value) {
  if (!present(value)) return "";
  if (typeof value === "number") return String(value);
  const text = String(value).replace(/^[=+@\t\r-]/, "'$&");  // a spreadsheet would take it for a formula
  return QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const visibleCases = () => {
  const byRow = new Map(cases.map(c => [`case-${c.index}`, c]));
  return [...document.querySelectorAll("tbody tr:not([hidden])")].map(row => byRow.get(row.id));
};

function asCsv() {
  const rows = visibleCases().map(c => Object.values(FIELDS).map(field => csvCell(field(c))).join(","));
  return [Object.keys(FIELDS).join(","), ...rows, ""].join("\r\n");
}

function asMarkdown() {
  const columns = COLUMNS.filter(({ title }) => title !== "Change" || byId("against").value !== "");
  const cell = (c, column) => {  // a table's cell has one line, without the graphics
    const parts = column.cell(c).map(part => part.textContent ?? part).map(text => text.trim()).filter(Boolean);
    return parts.join(" ").replace(/\s+/g, " ").replace(/[\\|<]/g, "\\$&");
  };
  const line = cells => `| ${cells.join(" | ")} |`;
  return [line(columns.map(({ title }) => title)), line(columns.map(() => "---")),
    ...visibleCases().map(c => line(columns.map(column => cell(c, column)))), ""].join("\n");
}

function offer(button, name, type, text) {
  byId(button).addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([text()], { type }));
    html("a", { href: url, download: name }).click();
    URL.revokeObjectURL(url);
  });
}

function tableRow(c) {
  const row = html("tr", { id: `case-${c.index}` });
  for (const { title, kind, cell } of COLUMNS) {
    const content = cell(c);
    const classes = content.length ? kind : `${kind} none`;
    row.append(html("td", { class: classes, "data-label": title }, ...content.length ? content : ["–"]));
  }
  const { min, iqr, rounds } = c.stats;
  row.title = `${c.fullname}\nmin ${time(min)} · IQR ${time(iqr)} · ${rounds} rounds`;
  row.addEventListener("click", event => event.target.closest("a") || row.querySelector("a")?.click());
  return row;
}

function compare(a, b) {
  if (!present(a) || !present(b)) return 0;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sortBy(column, heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const missing = c => Number(!present(column.value(c)));
  const order = [...cases].sort((a, b) =>  // a missing number stands last in both directions
    missing(a) - missing(b) || sign * compare(column.value(a), column.value(b)));
  document.querySelector("tbody").append(...order.map(c => byId(`case-${c.index}`)));
  markGroups();
}

function markGroups() {
  let above = null;
  for (const row of document.querySelectorAll("tbody tr:not([hidden])")) {
    const group = row.firstChild.textContent;
    row.classList.toggle("first", group !== above);
    above = group;
  }
}

function showTable() {
  const headings = html("tr");
  for (const column of COLUMNS) {
    const button = html("button", { type: "button" }, column.title);
    const heading = html("th", { scope: "col", class: column.kind }, button);
    button.addEventListener("click", () => sortBy(column, heading));
    headings.append(heading);
  }
  document.querySelector("thead").append(headings);
  for (const c of cases) c.drawn.push(tableRow(c));
  document.querySelector("tbody").append(...cases.flatMap(c => c.drawn));
}

function applyFilter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let visibleCases = 0;
  for (const c of cases) {
    const text = [c.group, c.case, c.dtype, c.backend, c.device, c.ceiling, c.is_reference ? "ref" : ""].join(" ");
    const visible = words.every(word => text.toLowerCase().includes(word));
    for (const element of c.drawn) element.toggleAttribute("hidden", !visible);
    visibleCases += visible;
  }
  byId("count").textContent = (words.length ? `${visibleCases} of ` : "") + count(cases.length, "case");
  markGroups();
}

showCommit();
showMachine();
showTable();
showCompare();
showSizes();
showRoofline();
showHistory();
applyFilter();
offer("csv", "benchmarks.csv", "text/csv", asCsv);
offer("markdown", "benchmarks.md", "text/markdown", asMarkdown);
byId("filter").addEventListener("input", applyFilter);
