"use strict";
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const [channels, height, width] = facts.image_shape;
const size = facts.noise_shape.reduce((a, b) => a * b, 1);
const COLUMNS = 8, GAP = 2, FRAMES = 12, BATCH = 64;

async function unpacked(id) {
  const packed = Uint8Array.from(atob($(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  $(id).remove();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The noise of a seed as torch draws it: the Mersenne Twister, then Box and Muller in blocks of 16.
class Twister {
  constructor(seed) {
    const state = new Uint32Array(624);
    state[0] = Number(BigInt(seed) % 4294967296n);
    for (let i = 1; i < 624; i++) {
      const s = state[i - 1] ^ (state[i - 1] >>> 30);
      state[i] = Math.imul(1812433253, s) + i;
    }
    this.state = state;
    this.next = 624;
  }
  word() {
    const s = this.state;
    if (this.next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.next = 0;
    }
    let y = s[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
  uniform() { return (this.word() & 0xffffff) / 16777216; }
}

function inBlock(out, start, u) {
  for (let j = 0; j < 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(Math.fround(1 - u[j])));
    const turn = Math.fround(2 * Math.PI) * u[j + 8];
    out[start + j] = radius * Math.cos(turn);
    out[start + j + 8] = radius * Math.sin(turn);
  }
}

function normal(seed, n) { // of at least 16 numbers, as all models here take
  const twister = new Twister(seed), uniform = new Float32Array(n), out = new Float32Array(n);
  for (let i = 0; i < n; i++) uniform[i] = twister.uniform();
  for (let i = 0; i + 16 <= n; i += 16) inBlock(out, i, uniform.subarray(i, i + 16));
  if (n % 16) inBlock(out, n - 16, Float32Array.from({ length: 16 }, () => twister.uniform()));
  return out;
}

let session, noise, images, ends = [], busy = false, again = false;
const moves = new Float32Array(facts.directions.length);
let chosen = facts.class_names.map((_, i) => i).slice(0, 10);

const labels = () => chosen.flatMap((label) => Array(COLUMNS).fill(label));

async function generate(noise, labels) {
  const made = new Uint8Array(labels.length * channels * height * width);
  for (let start = 0; start < labels.length; start += BATCH) {
    const part = labels.slice(start, start + BATCH), n = part.length;
    const fed = {
      noise: new ort.Tensor("float32", noise.slice(start * size, (start + n) * size), [n, ...facts.noise_shape]),
      labels: new ort.Tensor("int64", BigInt64Array.from(part, BigInt), [n]),
    };
    made.set((await session.run(fed)).images.data, start * channels * height * width);
  }
  return made;
}

function moved(base) {
  const out = Float32Array.from(base);
  facts.directions.forEach((direction, k) => {
    if (moves[k]) for (let i = 0; i < out.length; i++) out[i] += moves[k] * direction[i % size];
  });
  return out;
}

function draw(canvas, images, columns) {
  const n = images.length / (channels * height * width), rows = Math.ceil(n / columns);
  canvas.width = columns * (width + GAP) + GAP;
  canvas.height = rows * (height + GAP) + GAP;
  canvas.style.setProperty("--ratio", canvas.width / canvas.height);
  const context = canvas.getContext("2d");
  for (let i = 0; i < n; i++) {
    const pixels = context.createImageData(width, height), area = height * width;
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = images[(i * channels + (channels === 3 ? c : 0)) * area + p];
      pixels.data[4 * p + 3] = 255;
    }
    context.putImageData(pixels, (i % columns) * (width + GAP) + GAP, Math.floor(i / columns) * (height + GAP) + GAP);
  }
}

async function show() { // the newest wish, if wishes come faster than images
  if (busy) { again = true; return; }
  busy = true;
  const started = performance.now(), asked = labels();
  images = await generate(moved(noise), asked);
  draw($("grid"), images, COLUMNS);
  $("status").textContent = `ready: ${asked.length} images in ${(performance.now() - started).toFixed(0)} ms`;
  markEnds();
  busy = false;
  if (again) { again = false; show(); }
}

function restart() {
  const n = chosen.length * COLUMNS;
  noise = normal($("seed").value || 0, n * size);
  const names = chosen.map((k) => facts.class_names[k]);
  const asked = names.length === facts.class_names.length ? "all" : names.length === 1 ? names[0] : `[${names}]`;
  $("command").textContent = `python run.py task=generate ckpt=FOLDER 'labels=${asked}' n=${COLUMNS} seed=${$("seed").value || 0}`;
  ends = [];
  $("film").hidden = true;
  return show();
}

function markEnds() {
  const context = $("grid").getContext("2d");
  context.strokeStyle = "#ff8c3a";
  for (const i of ends) context.strokeRect((i % COLUMNS) * (width + GAP) + GAP / 2, Math.floor(i / COLUMNS) * (height + GAP) + GAP / 2, width + GAP, height + GAP);
}

async function walk() { // lengths change evenly, directions turn evenly
  const all = moved(noise), [a, b] = ends.map((i) => all.slice(i * size, (i + 1) * size));
  const length = (v) => Math.hypot(...v);
  const dot = a.reduce((sum, x, i) => sum + x * b[i], 0) / (length(a) * length(b));
  const angle = Math.acos(Math.max(-1, Math.min(1, dot))), path = new Float32Array(FRAMES * size);
  for (let f = 0; f < FRAMES; f++) {
    const t = f / (FRAMES - 1), long = (1 - t) * length(a) + t * length(b);
    const [s, e] = angle < 1e-3 ? [1 - t, t] : [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
    for (let i = 0; i < size; i++) path[f * size + i] = long * (s * a[i] / length(a) + e * b[i] / length(b));
  }
  const from = labels()[ends[0]], to = labels()[ends[1]];
  const made = await generate(path, Array.from({ length: FRAMES }, (_, f) => (2 * f < FRAMES ? from : to)));
  $("film").hidden = false;
  draw($("film"), made, FRAMES);
}

function toggle(k) {
  const rest = chosen.filter((each) => each !== k);
  return choose(rest.length < chosen.length ? rest : [...chosen, k].sort((a, b) => a - b));
}

function choose(wanted) {
  if (wanted.length) chosen = wanted;
  for (const button of $("classes").children) button.setAttribute("aria-pressed", chosen.includes(Number(button.value)));
  return restart();
}

function undo() {
  moves.fill(0);
  for (const slider of $("sliders").querySelectorAll("input")) slider.value = 0;
  return show();
}

function slide(k, value) {
  moves[k] = Math.max(-4, Math.min(4, value));
  $(`move${k}`).value = moves[k];
}

function furnish() {
  facts.class_names.forEach((name, k) => {
    const button = document.createElement("button");
    Object.assign(button, { value: k, textContent: name, title: "shift-click: this one alone" });
    button.setAttribute("aria-pressed", chosen.includes(k));
    button.onclick = (event) => (event.shiftKey ? choose([k]) : toggle(k));
    $("classes").append(button);
  });
  facts.directions.forEach((_, k) => {
    const label = document.createElement("label"), slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: -4, max: 4, step: 0.05, value: 0, id: `move${k}` });
    slider.oninput = () => { moves[k] = Number(slider.value); show(); };
    label.append(String(k + 1), slider);
    $("sliders").append(label);
  });
  if (!facts.directions.length) $("sliders").hidden = true;
  $("seed").onchange = restart;
  $("new").onclick = () => { $("seed").value = Math.floor(Math.random() * 2 ** 31); restart(); };
  $("still").onclick = undo;
  $("save").onclick = () => {
    const link = document.createElement("a");
    Object.assign(link, { href: $("grid").toDataURL("image/png"), download: `${facts.data}-${$("seed").value}.png` });
    link.click();
  };
  let from = null;
  const grid = $("grid");
  grid.onpointerdown = (event) => {
    from = { x: event.clientX, y: event.clientY, moves: [moves[0], moves[1]], far: false };
    grid.setPointerCapture(event.pointerId);
  };
  grid.onpointermove = (event) => {
    if (!from) return;
    const [x, y] = [event.clientX - from.x, event.clientY - from.y];
    from.far ||= Math.hypot(x, y) > 5;
    if (!from.far || !moves.length) return;
    slide(0, from.moves[0] + x / 60);
    if (moves.length > 1 && event.pointerType === "mouse") slide(1, from.moves[1] + y / 60);
    show();
  };
  grid.onpointerup = (event) => {
    if (from && !from.far) {
      const box = grid.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / box.width * COLUMNS);
      const row = Math.floor((event.clientY - box.top) / box.height * chosen.length);
      ends = [...ends.slice(-1), Math.min(row * COLUMNS + column, labels().length - 1)];
      draw(grid, images, COLUMNS);
      markEnds();
      if (ends.length === 2) walk();
    }
    from = null;
  };
  grid.onpointercancel = () => { from = null; };
  document.onkeydown = (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); $("new").click(); }
    else if (event.key === "Escape") undo();
    else if (/^\d$/.test(event.key) && Number(event.key) < facts.class_names.length) choose([Number(event.key)]);
    else if (event.key === "a") choose(facts.class_names.map((_, k) => k));
    else if (event.key.startsWith("Arrow") && moves.length) {
      const [k, by] = { ArrowLeft: [0, -0.2], ArrowRight: [0, 0.2], ArrowUp: [1, -0.2], ArrowDown: [1, 0.2] }[event.key];
      if (k < moves.length) { event.preventDefault(); slide(k, moves[k] + by); show(); }
    }
  };
}

let ort;
(async () => {
  const script = new Blob([await unpacked("runtime")], { type: "text/javascript" });
  ort = await import(URL.createObjectURL(script));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpacked("wasm");
  session = await ort.InferenceSession.create(await unpacked("model"), { executionProviders: ["wasm"] });
  furnish();
  await restart();
})().catch((error) => { $("status").textContent = `this page does not work in this browser: ${error.message}`; throw error; });
