// Players in step: every panel of a clip shows the same frame of its sprite.
"use strict";
function paint(canvas, image, s, n) {
  const columns = Math.min(s.columns, s.num_frames);
  n = Math.min(n, s.num_frames - 1);
  canvas.getContext("2d").drawImage(image, (n % columns) * s.width, Math.floor(n / columns) * s.height,
    s.width, s.height, 0, 0, canvas.width, canvas.height);
}
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
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  button.onclick = () => {
    if (timer) return stop();
    button.textContent = "Pause";
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
}
Promise.all([...document.querySelectorAll("section.clip")].map(start))
  .then(() => { document.body.dataset.ready = "true"; });
