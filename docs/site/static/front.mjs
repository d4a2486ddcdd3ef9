// The front page: one image drawn in the page, its codes in raster order.
import { Sampler } from "./draw.mjs";

const folder = new URL("onnx", import.meta.url).href;
const find = (id) => document.getElementById(id);
const words = find("drawing-words");
let sampler = null;
let newest = 0;

/** A colour for each code: neighbouring numbers get hues far apart. */
const colour = (code) => `hsl(${(code * 137.508) % 360} 60% ${45 + 15 * (code % 3)}%)`;

function show(canvas, codes, [height, width]) {
  const context = canvas.getContext("2d");
  const side = canvas.width / width;
  context.clearRect(0, 0, canvas.width, canvas.height);
  codes.forEach((code, i) => {
    context.fillStyle = colour(code);
    context.fillRect((i % width) * side, Math.floor(i / width) * side, side, side);
  });
}

function paint(canvas, { pixels, shape: [channels, height, width] }) {
  const data = new ImageData(width, height);
  const count = height * width;
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++)
      data.data[4 * i + c] = 255 * pixels[(channels === 3 ? c : 0) * count + i];
    data.data[4 * i + 3] = 255;
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(data, 0, 0);
}

async function drawOnce() {
  const number = ++newest; // a later press of the button stops this one
  if (!sampler) {
    sampler = await Sampler.load(folder, (share) => {
      words.textContent = `loading the weights: ${Math.round(100 * share)} %`;
    });
  }
  const { grids } = sampler.about;
  const started = performance.now();
  const drawn = { top: [], bottom: [] };
  const onRow = async (level, codes) => {
    if (number !== newest) throw new Error("stopped");
    drawn[level] = codes;
    show(find(`codes-${level}`), codes, grids[level]);
    const filled = { ...drawn, bottom: drawn.bottom.slice() };
    if (level === "bottom") {
      while (filled.bottom.length < grids.bottom[0] * grids.bottom[1])
        filled.bottom.push(filled.bottom[0]);
      paint(find("drawn-image"), await sampler.decode(filled));
    }
    await new Promise(requestAnimationFrame);
  };
  try {
    const codes = await sampler.draw({
      label: Number(find("class").value),
      seed: Number(find("seed").value),
      temperature: Number(find("temperature").value),
      guidance: Number(find("guidance").value),
      onRow,
    });
    paint(find("drawn-image"), await sampler.decode(codes));
    const seconds = (performance.now() - started) / 1000;
    words.textContent = `320 codes and their image in ${seconds.toFixed(1)} s, in this page`;
    document.body.dataset.drawn = JSON.stringify(codes);
  } catch (error) {
    if (number === newest) words.textContent = `this browser cannot draw: ${error.message}`;
  }
}

for (const id of ["temperature", "guidance"])
  find(id).addEventListener("input", () => {
    find(`${id}-value`).textContent = Number(find(id).value).toFixed(2);
  });
find("draw").addEventListener("click", drawOnce);
find("another").addEventListener("click", () => {
  find("seed").value = Number(find("seed").value) + 1;
  drawOnce();
});
const { guided } = await (await fetch(`${folder}/about.json`)).json();
find("guidance-label").hidden = !guided;
find("drawing").hidden = false;
