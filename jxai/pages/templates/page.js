(() => {
"use strict";
const all = (root, what) => [...root.querySelectorAll(what)];
const make = (tag, set = {}, ...inside) => { const made = Object.assign(document.createElement(tag), set); made.append(...inside); return made; };

const soft = name => name.split("_").flatMap((part, place) => place ? ["_", make("wbr"), part] : [part]);

// light and dark
const root = document.documentElement, theme = document.getElementById("theme"), themes = ["auto", "light", "dark"];
theme.onclick = () => {
  const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % 3];
  if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
  theme.querySelector("span").textContent = next;
  theme.ariaLabel = "theme: " + next;
};

// tables that sort: a first click puts the best first, another one turns the order; what is none stays last
for (const table of all(document, "table.sortable")) {
  const heads = all(table.tHead, "th"), body = table.tBodies[0];
  heads.forEach((head, place) => {
    head.firstElementChild.onclick = () => {
      const rows = [...body.rows], values = new Map(rows.map(row => [row, row.cells[place].dataset.v]));
      const numeric = rows.every(row => values.get(row) === "" || Number.isFinite(+values.get(row)) || /^-?inf$/.test(values.get(row)));
      const key = row => numeric ? +values.get(row).replace("inf", "Infinity") : values.get(row);
      const first = head.dataset.way === "1" ? "descending" : "ascending";
      const way = head.ariaSort === first ? (first === "ascending" ? "descending" : "ascending") : first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      rows.sort((a, b) => (values.get(a) === "") - (values.get(b) === "") || (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (way === "ascending" ? 1 : -1));
      body.append(...rows);
    };
  });
}

// legends that hide and show their lines
for (const chart of all(document, ".chart")) {
  for (const button of all(chart, ".legend button")) button.onclick = () => {
    const on = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", on);
    all(chart, ".line").filter(line => line.dataset.name === button.dataset.name).forEach(line => line.style.display = on ? "" : "none");
  };
}

// examples
const image = (source, alt, kind) => {
  const made = make("img", {src: source, alt, className: kind});
  made.onload = () => made.classList.toggle("px", made.naturalWidth * made.naturalHeight <= 2304);
  return made;
};
const bars = layer => {
  const most = Math.max(...layer.b.map(([, value]) => Math.abs(value)), 1e-30), box = make("div", {className: "bars"});
  for (const [name, value] of layer.b) {
    const bar = make("i", {className: layer.k === "plain" ? "plain" : value < 0 ? "against" : ""});
    bar.style.width = 100 * Math.abs(value) / most + "%";
    box.append(make("span", {textContent: name}), make("span", {}, bar), make("span", {textContent: String(value).replace("-", "−")}));
  }
  return box;
};
const figure = (one, layer) => {
  const stack = make("div", {className: "stack"});
  if (!layer || !layer.b) {
    if (one.x && (!layer || layer.k !== "plain" || layer.u)) stack.append(image(one.x, layer ? "" : one.a || "", "base"));
    if (layer && layer.k !== "plain") stack.classList.add("under");
    if (layer && layer.u) stack.append(image(layer.u, `${layer.n}: ${layer.a || ""}`, "map " + layer.k));
  }
  const caption = make("figcaption", {}, ...soft(layer ? layer.n : "example"));
  if (layer && layer.t) caption.append(make("small", {textContent: layer.t}));
  return make("figure", {}, layer && layer.b ? bars(layer) : stack, caption);
};
for (const browser of all(document, ".browser")) {
  const data = browser.querySelector("script[type='application/json']"), {m: metrics, c: cases} = JSON.parse(data.textContent);
  const find = what => browser.querySelector(what), form = find("form"), stage = find(".stage"), thumbs = find(".thumbs");
  let shown = cases.map((_, place) => place), at = 0;
  const buttons = thumbs ? cases.map((one, place) => {
    const button = make("button", {type: "button", ariaLabel: one.n, title: one.n, className: one.w ? "wrong" : ""}, one.i || one.x ? image(one.i || one.x, "", "") : String(place + 1));
    button.onclick = () => { at = shown.indexOf(place); draw(); };
    return button;
  }) : [];
  const scores = one => {
    const head = make("tr", {}, make("th", {scope: "col", textContent: data.dataset.scored}), ...metrics.map(m => make("th", {scope: "col"}, ...soft(m.n + ({1: " ↑", "-1": " ↓"}[m.w] || "")))));
    const number = text => parseFloat(text.replace("−", "-").replace("∞", "Infinity"));
    const best = metrics.map((m, k) => m.w && one.s.length > 1 ? m.w * Math.max(...one.s.map(row => m.w * number(row[k])).filter(v => !Number.isNaN(v))) : NaN);
    const rows = one.s.map((row, j) => make("tr", {}, make("th", {scope: "row"}, ...soft(one.l[j].n)),
      ...row.map((text, k) => make("td", {textContent: text, className: number(text) === best[k] ? "best" : ""}))));
    return make("table", {}, make("caption", {className: "dim", textContent: "scores of this example"}), make("thead", {}, head), make("tbody", {}, ...rows));
  };
  const draw = () => {
    const one = cases[shown[at]], layers = (one && one.l) || [];
    buttons.forEach((button, place) => button.ariaCurrent = String(place === shown[at]));
    if (one && buttons.length) { const button = buttons[shown[at]]; thumbs.scrollTop = button.offsetTop - thumbs.offsetTop - 50; }
    find("h4").textContent = one ? (cases.length > 1 ? `${at + 1} of ${shown.length}: ` : "") + one.n : "no example is left by these filters";
    find(".chips").replaceChildren(...((one && one.f) || []).map(([name, value]) => make("li", {className: one.w && name === "predicted" ? "wrong" : ""}, make("b", {textContent: name + " "}), value)));
    for (const [what, text] of [[".error", one && one.e], [".remark", one && one.t]]) { find(what).hidden = !text; find(what).textContent = text || ""; }
    const box = find(".pictures");
    box.replaceChildren(...(one && one.x ? [figure(one)] : []), ...(one && one.v ? [figure(one, {n: "example", k: "plain", b: one.v})] : []), ...layers.map(layer => figure(one, layer)));
    box.classList.toggle("few", layers.length < 4);
    const first = box.querySelector("img");
    if (first) first.addEventListener("load", () => box.classList.toggle("wide", first.naturalWidth > 3 * first.naturalHeight));
    find(".scores").replaceChildren(...(one && one.s && metrics.length ? [scores(one)] : []));
  };
  const filter = () => {
    const now = shown[at], wanted = form ? form.elements : {};
    const group = wanted.group ? wanted.group.value : "", least = wanted.apart ? +wanted.apart.value : -Infinity;
    shown = cases.map((_, place) => place).filter(place => {
      const one = cases[place];
      return (!group || one.g === group) && (!wanted.wrong || !wanted.wrong.checked || one.w) && (!wanted.apart || least <= +wanted.apart.min || (one.d !== null && one.d >= least));
    });
    if (wanted.apart) wanted.apart.nextElementSibling.textContent = least.toFixed(2);
    if (wanted.order && wanted.order.value) shown.sort((a, b) => (cases[b].d ?? -9) - (cases[a].d ?? -9) || a - b);
    at = Math.max(0, shown.indexOf(now));
    if (thumbs) thumbs.replaceChildren(...shown.map(place => buttons[place]));
    if (form) find(".count").textContent = `${shown.length} of ${cases.length} examples`;
    draw();
  };
  const go = by => { if (shown.length) { at = (at + by + shown.length) % shown.length; draw(); } };
  if (form) { form.oninput = filter; form.onsubmit = event => event.preventDefault(); }
  all(browser, ".go").forEach(button => button.onclick = () => go(+button.dataset.by));
  const slider = find("input[name=opacity]");
  if (slider) slider.oninput = () => { browser.style.setProperty("--opacity", slider.value / 100); slider.nextElementSibling.textContent = slider.value + " %"; };
  browser.go = go;
  filter();
}
// the arrow keys go on in the browser that has the focus, else in the one that is nearest to the middle of the window
document.addEventListener("keydown", event => {
  const by = {ArrowRight: 1, ArrowLeft: -1}[event.key], on = event.target;
  if (!by || event.altKey || event.ctrlKey || event.metaKey || on.matches("input, select, .scroll")) return;
  const browsers = all(document, ".browser"), middle = browser => Math.abs(browser.getBoundingClientRect().top + browser.offsetHeight / 2 - innerHeight / 2);
  const browser = on.closest(".browser") || browsers.sort((a, b) => middle(a) - middle(b))[0];
  if (browser) { browser.go(by); event.preventDefault(); }
});
})();
