"use strict";

// report/index.js holds IMAGES, of [name, width, height, captions], where a caption is [text, numbers] with three numbers
// per phrase: its start and end in the text, and its score; and FAILURES, of [path, reason].
// report/data-0001.js and so on call keepDetails with a list per image of lists per caption of lists per phrase:
// [x, y, level, boxes, heat's side, heat's bytes], where a box is [x, y, width, height, score].

const PAGE = 50; // images on a page
const LINES = 3; // captions of an image on a page; the large view has all
const KEPT = 24; // files of details in memory
const DOT = 8; // radius of a point, in pixels of the page

const CONTROLS = ["q", "in", "min", "max", "sort"]; // by id, each a part of the state

const byId = (id) => document.getElementById(id);
const results = byId("results");
const large = byId("large");

// The title is the folder's name. It isn't written into the page: equal runs give equal files, in whatever folder.
try {
  const folder = decodeURIComponent(location.pathname.split("/").at(-2) ?? "");
  if (folder) document.title = document.querySelector("h1").textContent = folder;
} catch {
  // a name that is no text
}

/** An element with properties and children; text is never read as HTML. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

const grouped = (count) => count.toLocaleString("en"); // 12,345
const counted = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

// --- What is shown: kept in the address, so that a view can be sent to somebody

const DEFAULTS = { view: "images", q: "", in: "captions", min: "", max: "", sort: "run", page: "1", image: "" };
let state = { ...DEFAULTS };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
  for (const key of ["view", "in", "sort"]) {
    const known = key === "view" ? ["images", "failures"] : [...byId(key).options].map((option) => option.value);
    if (!known.includes(state[key])) state[key] = DEFAULTS[key];
  }
  render();
}

/** Shows something else; what the browser's Back should undo is a step of the history. */
function go(change, step = false) {
  state = { ...state, ...change };
  const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  history[step ? "pushState" : "replaceState"](null, "", `#${new URLSearchParams(changed)}`);
  render();
}

// --- Which images: the filter and the order

const folded = (text) => text.normalize("NFC").toLowerCase();

/** Says of a text whether every word of the filter is in it. */
function wordFilter() {
  const words = folded(state.q).split(/\s+/).filter(Boolean);
  return (text) => {
    if (!words.length) return true;
    const low = folded(text);
    return words.every((word) => low.includes(word));
  };
}

/** Says which phrases of an image's caption the filter lets through: a function of name, caption, start, end, score. */
function phraseFilter() {
  const hasWords = wordFilter();
  const min = state.min === "" ? -Infinity : Number(state.min);
  const max = state.max === "" ? Infinity : Number(state.max);
  return (name, caption, start, end, score) =>
    !(score < min || score > max) &&
    hasWords(state.in === "names" ? name : state.in === "phrases" ? caption.slice(start, end) : caption);
}

/** The images that the filter lets through, in order, and how many of their phrases. */
function search() {
  const hasWords = wordFilter();
  const passes = phraseFilter();
  const bare = state.min === "" && state.max === "" && (state.in !== "phrases" || !state.q.trim());
  const found = [];
  let phrases = 0;
  IMAGES.forEach(([name, , , captions], number) => {
    let [lowest, highest, count] = [Infinity, -Infinity, 0];
    for (const [caption, numbers] of captions) {
      for (let i = 0; i < numbers.length; i += 3) {
        const score = numbers[i + 2];
        if (!passes(name, caption, numbers[i], numbers[i + 1], score)) continue;
        count += 1;
        if (score < lowest) lowest = score;
        if (score > highest) highest = score;
      }
    }
    // As long as no phrase was asked for, an image without phrases is found, too.
    const texts = state.in === "names" ? [name] : ["", ...captions.map(([caption]) => caption)];
    if (count || (bare && texts.some(hasWords))) {
      found.push({ number, lowest, highest });
      phrases += count;
    }
  });
  if (state.sort === "name") {
    const { compare } = new Intl.Collator("en", { numeric: true });
    found.sort((a, b) => compare(IMAGES[a.number][0], IMAGES[b.number][0]));
  }
  // Those without a phrase come last either way.
  if (state.sort === "best") found.sort((a, b) => b.highest - a.highest || a.number - b.number);
  if (state.sort === "worst") found.sort((a, b) => a.lowest - b.lowest || a.number - b.number);
  return { numbers: found.map(({ number }) => number), phrases };
}

// --- Details, loaded when they are wanted

const details = new Map(); // number of a file: promise of what it holds, the one used last at the end
const arrived = new Map(); // number of a file: what to call with its content

function keepDetails(number, images) {
  arrived.get(number)?.(images);
  arrived.delete(number);
}

/** The details of an image. */
async function detailsOf(image) {
  const number = Math.floor(image / CHUNK) + 1;
  const kept = details.get(number) ?? loadDetails(number);
  details.delete(number);
  details.set(number, kept);
  if (details.size > KEPT) details.delete(details.keys().next().value);
  return (await kept)[image % CHUNK];
}

function loadDetails(number) {
  return new Promise((resolve, reject) => {
    const src = `report/data-${String(number).padStart(4, "0")}.js`;
    const script = element("script", { src });
    script.onload = () => script.remove();
    script.onerror = () => {
      script.remove();
      details.delete(number);
      complain(`${src} can't be read: heat maps, points and boxes of its images aren't shown.`);
      reject(new Error(src));
    };
    arrived.set(number, resolve);
    document.head.append(script);
  });
}

// --- An image: its picture, captions and phrases

/** A path as an address; bytes of a name that are no text, which come as lone surrogates, stay what they were. */
function address(path) {
  const encode = (char) =>
    /^[\udc80-\udcff]$/.test(char) ? `%${(char.charCodeAt(0) - 0xdc00).toString(16)}` : encodeURIComponent(char.toWellFormed?.() ?? char);
  return path.split("/").map((part) => [...part].map(encode).join("")).join("/");
}

/**
 * An image's captions as lines to show: {pieces, phrases}, where pieces are strings and phrases in the order to
 * write them. Captions that are one phrase each share a line, and a line's phrases have their own colours.
 */
function linesOf(number) {
  const lines = [];
  let run = null;
  IMAGES[number][3].forEach(([text, numbers], caption) => {
    const phrases = [];
    for (let i = 0; i < numbers.length; i += 3) {
      const [start, end, score] = numbers.slice(i, i + 3);
      phrases.push({ caption, index: i / 3, text: text.slice(start, end), start, end, score });
    }
    const lone = phrases.length === 1 && phrases[0].text === text;
    if (lone && run) {
      run.pieces.push(" · ", phrases[0]);
      run.phrases.push(phrases[0]);
    } else {
      lines.push({ pieces: piecesOf(text, phrases), phrases });
    }
    run = lone ? lines.at(-1) : null;
  });
  for (const line of lines) line.phrases.forEach((phrase, i) => (phrase.color = COLORS[i % COLORS.length]));
  return lines;
}

function piecesOf(text, phrases) {
  const pieces = [];
  const overlapping = [];
  let at = 0;
  for (const phrase of [...phrases].sort((a, b) => a.start - b.start || b.end - a.end)) {
    if (phrase.start < at) {
      overlapping.push(" ", phrase); // inside another one: after the caption
      continue;
    }
    pieces.push(text.slice(at, phrase.start), phrase);
    at = phrase.end;
  }
  return [...pieces, text.slice(at), ...overlapping];
}

const rgb = (color) => `rgb(${color.join(" ")})`;

/** A picture with captions whose phrases can be shown on it. */
class Grounding {
  /** `lines` are those of its captions to show, `passes` the filter, `note` an element that tells of what is drawn. */
  constructor(number, lines, passes, note = null) {
    this.number = number;
    this.lines = lines;
    this.passes = ({ caption, start, end, score }) => passes(IMAGES[number][0], IMAGES[number][3][caption][0], start, end, score);
    // Drawn when no phrase is chosen: those of one line, as lines share colours.
    this.rest = lines.map(({ phrases }) => phrases.filter(this.passes)).find((phrases) => phrases.length) ?? [];
    this.note = note;
    this.pinned = null; // the chip that was clicked
    this.drawn = [];
    const [name, width, height, , picture = `${name}.jpg`] = IMAGES[number];
    const image = element("img", { alt: "", loading: "lazy", decoding: "async", src: `report/thumbnails/${address(picture)}` });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.frame = element("span", { className: "frame" }, image, this.canvas);
    this.frame.style.setProperty("--ratio", width / height);
    this.well = element("span", { className: "well" }, this.frame);
  }

  /** The elements of its lines. */
  captions() {
    return this.lines.map((line) => {
      const pieces = line.pieces.map((piece) => (typeof piece === "string" ? piece : this.chip(piece, !this.passes(piece))));
      return element("p", { className: "caption", dir: "auto" }, ...pieces);
    });
  }

  chip(phrase, other) {
    const score = element("small", {}, phrase.score.toFixed(2));
    const label = `${phrase.text}, score ${phrase.score.toFixed(2)}`;
    const role = { role: "button", tabIndex: 0, "aria-pressed": "false", "aria-label": label };
    const chip = element("span", { className: other ? "chip other" : "chip", ...role }, `${phrase.text}\u00a0`, score);
    chip.style.setProperty("--color", rgb(phrase.color));
    chip.onpointerenter = (event) => event.pointerType === "mouse" && this.show([phrase]);
    chip.onpointerleave = (event) => event.pointerType === "mouse" && this.leave();
    chip.onfocus = () => this.show([phrase]);
    chip.onblur = () => this.leave();
    chip.onclick = () => this.pin(chip, phrase);
    chip.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.pin(chip, phrase);
    };
    return chip;
  }

  pin(chip, phrase) {
    const same = this.pinned?.chip === chip;
    this.pinned?.chip.setAttribute("aria-pressed", "false");
    this.pinned = same ? null : { chip, phrase };
    chip.setAttribute("aria-pressed", String(!same));
    this.show(same ? this.rest : [phrase]);
  }

  unpin() {
    this.pinned?.chip.setAttribute("aria-pressed", "false");
    this.pinned = null;
    this.leave();
  }

  leave() {
    this.show(this.pinned ? [this.pinned.phrase] : this.rest);
  }

  /** Draws phrases: a chosen one with its heat and all boxes, else the best box of each. */
  async show(phrases) {
    this.drawn = phrases;
    if (!phrases.length) {
      this.canvas.className = "";
      return;
    }
    const found = await detailsOf(this.number).catch(() => null);
    if (found && this.drawn === phrases) this.draw(phrases.map((phrase) => [phrase, found[phrase.caption][phrase.index]]));
  }

  redraw() {
    this.show(this.drawn);
  }

  draw(phrases) {
    const { canvas } = this;
    const ratio = window.devicePixelRatio;
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    canvas.width = Math.round(width * ratio); // which clears it, too
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    const alone = this.drawn !== this.rest;
    if (alone) drawHeat(pen, phrases[0][1], phrases[0][0].color);
    pen.scale(ratio, ratio);
    const scale = [width / IMAGES[this.number][1], height / IMAGES[this.number][2]];
    for (const [{ color }, [, , , boxes]] of phrases) {
      boxes.slice(0, alone ? boxes.length : 1).map((box, i) => [box, i]).reverse()
        .forEach(([box, i]) => drawBox(pen, box, scale, rgb(color), i === 0));
    }
    const places = phrases.map(([, [x, y]]) => [x * scale[0], y * scale[1]]);
    const points = spread(places, width, height);
    points.forEach((point, i) => drawLine(pen, places[i], point));
    points.forEach((point, i) => drawPoint(pen, point, rgb(phrases[i][0].color)));
    const taken = points.map(([x, y]) => [x - DOT, y - DOT, 2 * DOT, 2 * DOT]);
    for (const [{ text, color }, [x, y, , [box = [x, y, 0, 0]]]] of phrases) {
      drawName(pen, text, color, box.slice(0, 4).map((length, i) => length * scale[i % 2]), taken);
    }
    canvas.className = "on";
    if (this.note) this.note.textContent = alone ? inWords(...phrases[0]) : "Choose a phrase to see its heat map.";
  }
}

function inWords({ score }, [x, y, level, boxes]) {
  const corners = boxes.map((box) => box.slice(0, 4).map(Math.round).join(", "));
  const where = corners.length ? `box (x, y, width, height): ${corners.join(" · ")}` : "no box";
  return `Score ${score.toFixed(3)}, level ${level}, point (x, y): ${Math.round(x)}, ${Math.round(y)}, ${where}`;
}

/** Darkens the picture where a phrase isn't, and tints it where it is. */
function drawHeat(pen, [, , , , side, data], color) {
  if (!side) return;
  const bytes = atob(data);
  const small = element("canvas", { width: side, height: side });
  const cells = new ImageData(side, side);
  for (let i = 0; i < bytes.length; i += 1) {
    const heat = bytes.charCodeAt(i) / 255;
    const [dark, tint] = [0.7 * (1 - heat), 0.4 * heat];
    cells.data.set([...color.map((value) => (value * tint + 16 * dark) / (dark + tint)), 255 * (dark + tint)], 4 * i);
  }
  small.getContext("2d").putImageData(cells, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, pen.canvas.width, pen.canvas.height);
}

/** A frame with a dark edge on either side, so that it stands out on any ground. */
function drawBox(pen, [x, y, width, height], [across, down], color, best) {
  pen.setLineDash(best ? [] : [6, 4]);
  for (const [style, thickness] of [["rgb(20 20 20 / .8)", best ? 5 : 3.5], [color, best ? 2.5 : 1.5]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thickness;
    const [left, top] = [Math.max(x * across, 2), Math.max(y * down, 2)];
    const right = Math.min((x + width) * across, pen.canvas.clientWidth - 2);
    pen.strokeRect(left, top, right - left, Math.min((y + height) * down, pen.canvas.clientHeight - 2) - top);
  }
}

/** Points, whole within the picture, of which none hides another: each gives way sideways, towards the middle. */
function spread(points, width, height) {
  const within = (value, side) => Math.max(DOT, Math.min(value, side - DOT));
  const placed = [];
  for (const point of points) {
    const [x, y] = [within(point[0], width), within(point[1], height)];
    let at = [x, y];
    while (placed.some((other) => Math.hypot(other[0] - at[0], other[1] - at[1]) < 2 * DOT)) {
      at = [at[0] + (x < width / 2 ? DOT : -DOT), at[1]];
      if (at[0] < DOT || at[0] > width - DOT) at = [x, at[1] + (y < height / 2 ? DOT : -DOT)]; // the row is full
      if (at[1] < DOT || at[1] > height - DOT) {
        at = [x, y]; // so is the picture
        break;
      }
    }
    placed.push(at);
  }
  return placed;
}

/** Leads from where a point belongs to where it gave way to. */
function drawLine(pen, from, to) {
  pen.strokeStyle = "white";
  pen.lineWidth = 2;
  pen.setLineDash([]);
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

/** A dot of the colour in a white ring with a dark edge. */
function drawPoint(pen, [x, y], color) {
  for (const [style, radius] of [["rgb(20 20 20)", DOT], ["white", DOT - 1], [color, DOT - 3.5]]) {
    pen.fillStyle = style;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** A box's name in one of its corners, or beneath each other where those are taken; `taken` grows by its place. */
function drawName(pen, text, color, [x, y, across, down], taken) {
  const [width, height] = [pen.canvas.clientWidth, pen.canvas.clientHeight];
  pen.font = "600 12px system-ui, sans-serif";
  let shown = text;
  const letters = [...text];
  while (letters.length > 1 && pen.measureText(shown).width > Math.max(0.6 * width, 40)) {
    letters.pop();
    shown = `${letters.join("").trimEnd()}…`;
  }
  const size = [pen.measureText(shown).width + 10, 18];
  const inside = (left, top) => [
    Math.max(0, Math.min(left, width - size[0])), Math.max(0, Math.min(top, height - size[1])), ...size,
  ];
  const corners = [y, y + down - size[1]].flatMap((top) => [inside(x, top), inside(x + across - size[0], top)]);
  for (let top = y; top < height; top += size[1] / 2) corners.push(inside(x, top));
  for (let top = y; top > 0; top -= size[1] / 2) corners.push(inside(x, top));
  const free = ([l, t, w, h]) => !taken.some(([L, T, W, H]) => l < L + W && L < l + w && t < T + H && T < t + h);
  const place = corners.find(free) ?? corners[0];
  taken.push(place);
  const [red, green, blue] = color;
  pen.fillStyle = rgb(color);
  pen.beginPath();
  pen.roundRect(...place, 4);
  pen.fill();
  pen.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 128 ? "rgb(20 20 20)" : "white";
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.fillText(shown, place[0] + 5, place[1] + size[1] / 2 + 1);
}

// --- The page of results

let shown = { numbers: [], phrases: 0 }; // what the filter found
let groundings = []; // on this page
let last = {}; // what was rendered, by part, as text

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    groundings.find(({ number }) => number === Number(target.dataset.number)).leave();
  }
}, { rootMargin: "100px" });

/** Whether a part is to be made anew, for what it depends on. */
function changed(part, ...dependencies) {
  const text = JSON.stringify(dependencies);
  const differs = last[part] !== text;
  last[part] = text;
  return differs;
}

function render() {
  const { view, q, min, max, sort } = state;
  const filter = [view, q, state.in, min, max, sort];
  if (changed("filter", ...filter)) {
    for (const key of CONTROLS) if (byId(key).value !== state[key]) byId(key).value = state[key];
    for (const button of byId("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    for (const key of CONTROLS.slice(1)) byId(key).disabled = view === "failures";
    shown = view === "images" ? search() : searchFailures();
    byId("count").textContent = summary();
  }
  const page = pageNumber();
  if (changed("page", page, ...filter)) {
    renderPage(page);
    for (const pager of document.querySelectorAll(".pager")) renderPager(pager, page);
  }
  const image = Number(state.image) - 1;
  if (view === "images" && IMAGES[image]) renderLarge(image);
  else closeLarge();
}

const pages = () => Math.max(1, Math.ceil(shown.numbers.length / PAGE));
const pageNumber = () => Math.min(Math.max(1, Math.floor(Number(state.page)) || 1), pages());

function searchFailures() {
  const hasWords = wordFilter();
  const numbers = [];
  FAILURES.forEach(([path, reason], number) => hasWords(`${path} ${reason}`) && numbers.push(number));
  return { numbers, phrases: 0 };
}

function summary() {
  const { numbers, phrases } = shown;
  if (state.view === "failures") {
    const of = numbers.length < FAILURES.length ? `${grouped(numbers.length)} of ` : "";
    return of + counted(FAILURES.length, "failure");
  }
  const of = numbers.length < IMAGES.length ? `${grouped(numbers.length)} of ` : "";
  return `${of}${counted(IMAGES.length, "image")}, ${counted(phrases, "phrase")}`;
}

function renderPage(page) {
  const numbers = shown.numbers.slice((page - 1) * PAGE, page * PAGE);
  groundings = [];
  seen.disconnect();
  results.className = state.view;
  results.replaceChildren(...numbers.map(state.view === "images" ? card : failure));
  for (const item of results.querySelectorAll(".card")) seen.observe(item);
  if (!numbers.length) results.append(nothing());
}

/** What stands where images would, and how to get them back. */
function nothing() {
  const what = state.view === "images" ? "image" : "failure";
  const all = state.view === "images" ? IMAGES : FAILURES;
  if (!all.length) return element("li", { className: "nothing" }, `There is no ${what}.`);
  const onclick = () => {
    go({ q: "", in: DEFAULTS.in, min: "", max: "", page: "1" });
    byId("q").focus();
  };
  const clear = element("button", { type: "button", onclick }, "Clear the filter");
  return element("li", { className: "nothing" }, element("p", {}, `No ${what} fits the filter.`), clear);
}

function failure(number) {
  const [path, reason] = FAILURES[number];
  return element("li", {}, element("b", {}, element("bdi", {}, path)), element("span", {}, reason));
}

function card(number) {
  const [name] = IMAGES[number];
  const passes = phraseFilter();
  const all = linesOf(number);
  const matching = all.filter((line) => linePasses(number, line, passes));
  const lines = (matching.length ? matching : all).slice(0, LINES);
  const grounding = new Grounding(number, lines, passes);
  groundings.push(grounding);
  const onclick = () => go({ image: String(number + 1) }, true);
  const open = element("button", { type: "button", onclick, "aria-label": `${name}, large view` }, grounding.well);
  const text = element("div", { className: "text" }, element("h2", { className: "name" }, element("bdi", {}, name)));
  text.append(...grounding.captions());
  if (all.length > lines.length) {
    const more = counted(all.length - lines.length, "more caption");
    text.append(element("button", { type: "button", className: "more", onclick }, more));
  }
  const item = element("li", { className: "card" }, open, text);
  item.dataset.number = number;
  return item;
}

function linePasses(number, { pieces, phrases }, passes) {
  const [name, , , captions] = IMAGES[number];
  if (!phrases.length) return passes(name, pieces[0], 0, pieces[0].length, NaN);
  return phrases.some(({ caption, start, end, score }) => passes(name, captions[caption][0], start, end, score));
}

function renderPager(pager, page) {
  const total = pages();
  pager.hidden = total === 1;
  const turn = (to) => {
    go({ page: String(to) }, true);
    window.scrollTo(0, 0);
  };
  const field = element("input", { type: "number", min: 1, max: total, value: page });
  field.onchange = () => turn(Math.min(Math.max(1, Math.floor(Number(field.value)) || 1), total));
  pager.replaceChildren(
    element("button", { type: "button", disabled: page === 1, onclick: () => turn(page - 1) }, "Previous"),
    element("label", {}, "Page ", field, ` of ${grouped(total)}`),
    element("button", { type: "button", disabled: page === total, onclick: () => turn(page + 1) }, "Next"),
  );
}

// --- The large view

let enlarged = null;

function renderLarge(number) {
  if (!changed("large", number, state.q, state.in, state.min, state.max)) return;
  const [name, width, height] = IMAGES[number];
  const at = shown.numbers.indexOf(number);
  enlarged = new Grounding(number, linesOf(number), phraseFilter(), byId("note"));
  byId("large-name").replaceChildren(element("bdi", { title: name }, name));
  byId("large-size").textContent = `${width} × ${height}`;
  byId("large-place").textContent = at < 0 ? "" : `${grouped(at + 1)} of ${grouped(shown.numbers.length)}`;
  byId("previous").setAttribute("aria-disabled", String(at <= 0));
  byId("next").setAttribute("aria-disabled", String(at === shown.numbers.length - 1));
  byId("note").textContent = "";
  byId("large-picture").replaceChildren(enlarged.well);
  byId("large-captions").replaceChildren(...enlarged.captions());
  byId("large-captions").parentElement.scrollTop = 0;
  if (!large.open) {
    large.showModal();
    large.focus();
  }
  enlarged.leave();
}

function closeLarge() {
  last.large = undefined;
  enlarged = null;
  if (large.open) large.close();
}

large.addEventListener("close", () => {
  if (!state.image) return;
  const number = state.image - 1;
  go({ image: "" });
  focusCard(results.querySelector(`[data-number="${number}"]`));
});
large.addEventListener("click", (event) => event.target === large && large.close());
byId("previous").onclick = () => step(-1);
byId("next").onclick = () => step(1);
byId("close").onclick = () => large.close();

// --- Keys

const focusCard = (item) => item?.querySelector("button").focus();

/** Goes to the next image, or another one `by` images away: in the large view, or from card to card. */
function step(by) {
  if (state.image) {
    const at = shown.numbers.indexOf(state.image - 1) + by;
    if (!(at in shown.numbers)) return;
    go({ image: String(shown.numbers[at] + 1), page: String(Math.floor(at / PAGE) + 1) });
    return;
  }
  const cards = [...results.querySelectorAll(".card")];
  const at = cards.indexOf(document.activeElement.closest(".card"));
  const to = at < 0 ? 0 : at + by;
  if (to in cards) return focusCard(cards[to]);
  const page = pageNumber() + Math.sign(by);
  if (page < 1 || page > pages()) return;
  go({ page: String(page) }, true);
  focusCard(by > 0 ? results.firstElementChild : results.lastElementChild);
}

/** Cards in a row. */
function columns() {
  const tops = [...results.children].map((item) => item.offsetTop);
  return tops.filter((top) => top === tops[0]).length;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    for (const grounding of groundings) grounding.unpin();
  }
  if (typing) return;
  const onCard = document.activeElement.closest(".card");
  const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
  if (onCard && !state.image) Object.assign(steps, { ArrowDown: columns(), ArrowUp: -columns() });
  if (event.key === "/" && !state.image) byId("q").focus();
  else if (event.key in steps && state.view === "images") step(steps[event.key]);
  else return;
  event.preventDefault();
});

// --- The head

let typed = 0;
byId("filter").addEventListener("input", (event) => {
  clearTimeout(typed);
  const values = () => Object.fromEntries(CONTROLS.map((key) => [key, byId(key).value]));
  typed = setTimeout(() => go({ ...values(), page: "1" }), event.target.type === "search" ? 120 : 0);
});
byId("filter").addEventListener("submit", (event) => event.preventDefault());
for (const button of byId("views").children) {
  button.onclick = () => go({ view: button.dataset.view, page: "1", image: "" }, true);
}

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Whoever chose colours once has them again; where the browser keeps nothing for pages from disk, the system decides. */
function showTheme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  byId("theme").setAttribute("aria-pressed", String((chosen ?? (dark.matches ? "dark" : "light")) === "dark"));
}
function storedTheme() {
  try {
    return localStorage.getItem("groundcli-theme");
  } catch {
    return null;
  }
}
byId("theme").onclick = () => {
  const chosen = byId("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
  try {
    localStorage.setItem("groundcli-theme", chosen);
  } catch {
    // Then it holds until the page is closed.
  }
  showTheme(chosen);
};
dark.addEventListener("change", () => showTheme(document.documentElement.dataset.theme));

// --- Off it goes

window.addEventListener("resize", () => {
  for (const grounding of [...groundings, enlarged]) grounding?.redraw();
});
window.addEventListener("popstate", readAddress);
showTheme(storedTheme());
if (typeof IMAGES === "undefined") {
  complain("report/index.js can't be read: keep the folder “report” beside report.html.");
} else {
  byId("views").children[0].lastElementChild.textContent = grouped(IMAGES.length);
  byId("views").children[1].lastElementChild.textContent = grouped(FAILURES.length);
  readAddress();
}
