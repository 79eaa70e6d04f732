// Players in step: every panel of a clip shows the same frame of its sprite.
"use strict";
function paint(canvas, image, s, n) {
  const columns = Math.min(s.columns, s.num_frames);
  n = Math.min(n, s.num_frames - 1);
  canvas.getContext("2d").drawImage(image, (n % columns) * s.width, Math.floor(n / columns) * s.height,
    s.width, s.height, 0, 0, canvas.width, canvas.height);
}
const chosen = { clip: document.getElementById("clip"), seed: document.getElementById("seed") };
const sections = [...document.querySelectorAll("section.clip")];
const started = new Map();
const sprites = new Map();
function sprite(id) {  // a clip's player and its strip share one
  if (!sprites.has(id)) {
    sprites.set(id, new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error(`${id} cannot be shown`));
      image.src = document.getElementById(id).textContent;
    }));
  }
  return sprites.get(id);
}
async function load(canvas) {
  const s = JSON.parse(canvas.dataset.sprite);
  s.columns = SPRITE_COLUMNS;
  const image = await sprite(s.id);
  return { canvas, image, s };
}
async function start(section) {
  const panels = await Promise.all([...section.querySelectorAll(".panel canvas")].map(load));
  const length = Math.max(...panels.map((p) => p.s.num_frames));
  const bar = section.querySelector("input"), button = section.querySelector("button");
  const count = section.querySelector("output"), fps = Number(section.dataset.fps);
  bar.max = length - 1;
  const show = (n) => { panels.forEach((p) => paint(p.canvas, p.image, p.s, n)); bar.value = n;
    count.textContent = `${n + 1} / ${length}`; section.dataset.frame = n; };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play";
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace("Pause", "Play")); };
  button.onclick = () => {
    if (timer) return stop();
    button.textContent = "Pause";
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace("Play", "Pause"));
    timer = setInterval(() => show((Number(bar.value) + 1) % length), 1000 / fps);
  };
  bar.oninput = () => { stop(); show(Number(bar.value)); };
  show(0);
  for (const strip of section.querySelectorAll("canvas.strip")) {
    const { image, s } = await load(strip);
    const context = strip.getContext("2d");
    const pieces = strip.width / s.width;
    const columns = Math.min(s.columns, s.num_frames);
    for (let i = 0; i < pieces; i++) {
      const n = Math.round(i * (s.num_frames - 1) / (pieces - 1));
      context.drawImage(image, (n % columns) * s.width, Math.floor(n / columns) * s.height, s.width, s.height,
        i * s.width, 0, s.width, s.height);
    }
  }
  section.dataset.ready = "true";
  return stop;
}
async function choose() {  // one clip and one seed are shown; a clip is decoded when it is first shown
  const shown = sections[chosen.clip.selectedIndex];
  for (const section of sections) {
    section.hidden = section !== shown;
    if (section.hidden && started.has(section)) (await started.get(section))();
  }
  for (const figure of document.querySelectorAll("figure[data-seed]"))
    figure.hidden = figure.dataset.seed !== chosen.seed.value;
  if (!started.has(shown)) started.set(shown, start(shown));
  await started.get(shown);
}
for (const plot of document.querySelectorAll(".plots svg")) {
  const dots = [...plot.querySelectorAll("circle")], told = plot.parentElement.querySelector("output");
  let at = -1;
  const show = (n) => {
    at = (n + dots.length) % dots.length;
    dots.forEach((dot, i) => dot.classList.toggle("at", i === at));
    told.textContent = dots[at].querySelector("title").textContent;
  };
  dots.forEach((dot, n) => { dot.onclick = dot.onpointerenter = () => show(n); });
  plot.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); show(at < 0 && step < 0 ? 0 : at + step); }
  };
}
chosen.clip.onchange = chosen.seed.onchange = choose;
choose().then(() => { document.body.dataset.ready = "true"; });
