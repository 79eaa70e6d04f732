// The live tab: frames of a webcam or a clip go to the server, pictures of the character come back. One frame at
// a time is under way; those that the source shows meanwhile are dropped, never queued.
(() => {
  const SIDE = 480; // longest side of the frames that are sent
  let run = null; // of the character that is live

  const part = (name) => document.getElementById("live-" + name);
  const say = (text) => { part("status").textContent = text; };

  async function ask(path, options) {
    const answer = await fetch(path, options);
    if (answer.ok) return answer;
    let text = answer.statusText;
    try { text = (await answer.json()).error || text; } catch { /* no sentence in it */ }
    throw new Error(text);
  }

  async function openSource(video, own) {
    if (part("source").value === "webcam") {
      if (!navigator.mediaDevices) throw new Error("the browser gives the webcam to pages on this machine or over https only");
      own.media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
      video.srcObject = own.media;
    } else {
      const file = part("clip").files[0];
      own.url = file ? URL.createObjectURL(file) : null;
      video.src = own.url || part("panel").dataset.clip;
      video.loop = true;
    }
    video.muted = true;
    await video.play();
  }

  async function send(own, video, canvas) {
    const factor = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * factor);
    canvas.height = Math.round(video.videoHeight * factor);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const taken = performance.now();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
    const answer = await ask(`live/${own.id}/frame`, { method: "POST", body: blob });
    const { number } = await answer.json();
    own.taken.set(number, taken);
  }

  async function sendFrames(own, video) {
    const canvas = document.createElement("canvas");
    while (run === own) {
      if (video.videoWidth && !video.paused) await send(own, video, canvas);
      await new Promise((next) => {
        if (video.requestVideoFrameCallback && !video.paused) {
          const late = setTimeout(next, 500);
          video.requestVideoFrameCallback(() => { clearTimeout(late); next(); });
        } else setTimeout(next, 100);
      });
    }
  }

  async function showPictures(own) {
    let last = 0;
    const times = [], delays = [];
    while (run === own) {
      const answer = await ask(`live/${own.id}/picture?after=${last}`);
      if (answer.status === 204) continue;
      last = Number(answer.headers.get("X-Number"));
      const image = await createImageBitmap(await answer.blob());
      if (run !== own) return;
      const shown = part("picture");
      shown.width = image.width;
      shown.height = image.height;
      shown.getContext("2d").drawImage(image, 0, 0);
      const now = performance.now();
      times.push(now);
      while (times[0] < now - 3000) times.shift();
      if (own.taken.has(last)) delays.push(now - own.taken.get(last));
      if (delays.length > 15) delays.shift();
      for (const number of own.taken.keys()) if (number <= last) own.taken.delete(number);
      own.shown += 1;
      own.passed = last - own.shown; // of those before it
      report(own, times, delays, answer.headers.get("X-Seen") === "1");
    }
  }

  function report(own, times, delays, isSeen) {
    const seconds = (times[times.length - 1] - times[0]) / 1000;
    const rate = seconds > 0 ? (times.length - 1) / seconds : 0;
    const delay = [...delays].sort((a, b) => a - b)[delays.length >> 1] || 0;
    part("rate").textContent = rate.toFixed(1);
    part("delay").textContent = (delay / 1000).toFixed(2);
    part("shown").textContent = own.shown;
    part("dropped").textContent = Math.max(0, own.passed);
    const words = isSeen ? "The character is live." : "Nobody is seen; step back until you are in the picture.";
    if (part("status").textContent !== words) say(words);
  }

  async function start() {
    await stop();
    const own = { taken: new Map(), shown: 0, passed: 0, starting: true };
    run = own;
    const video = part("video");
    say("The model is being loaded.");
    try {
      await openSource(video, own);
      const body = part("character").files[0] || null;
      own.id = (await (await ask("live/start", { method: "POST", body })).json()).id;
      if (run !== own) return end(own);
      say("Looking for a person.");
      await Promise.all([sendFrames(own, video), showPictures(own)]);
    } catch (error) {
      if (run === own) { await stop(); say(`It has stopped: ${error.message}.`); }
    }
  }

  function end(own) {
    if (own.media) own.media.getTracks().forEach((track) => track.stop());
    if (own.url) URL.revokeObjectURL(own.url);
    if (own.id) return fetch(`live/${own.id}/stop`, { method: "POST", keepalive: true }).catch(() => {});
  }

  async function stop() {
    const own = run;
    run = null;
    if (!own) return;
    const video = part("video");
    video.pause();
    video.srcObject = null;
    video.removeAttribute("src");
    await end(own);
    say("Stopped.");
  }

  document.addEventListener("click", (event) => {
    if (event.target.id === "live-start") start();
    if (event.target.id === "live-stop") stop();
  });
  window.addEventListener("pagehide", () => { if (run) end(run); });
})();
