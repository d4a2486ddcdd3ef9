// The front page: one image drawn in the page, its codes in raster order.
import { Sampler, seedOf } from "./draw.mjs";

const folder = new URL("onnx", import.meta.url).href;
const find = (id) => document.getElementById(id);
const words = find("drawing-words");
let loading = null; // the sampler, once for all presses of the button
let newest = 0;

function load() {
  loading ??= Sampler.load(folder, (share) => {
    words.textContent = `loading the weights: ${Math.round(100 * share)} %`;
  }).catch((error) => {
    loading = null; // the next press tries again
    throw error;
  });
  return loading;
}

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
  try {
    const seed = seedOf(find("seed").value);
    words.textContent = "drawing";
    const sampler = await load();
    const { grids } = sampler.about;
    const started = performance.now();
    const drawn = { top: [], bottom: [] };
    const count = grids.bottom[0] * grids.bottom[1];
    const onRow = async (level, codes) => {
      if (number !== newest) throw new Error("stopped");
      drawn[level] = codes;
      show(find(`codes-${level}`), codes, grids[level]);
      if (level === "bottom") {
        const missing = new Array(count - codes.length).fill(codes[0]);
        const filled = { top: drawn.top, bottom: [...codes, ...missing] };
        paint(find("drawn-image"), await sampler.decode(filled));
      }
      await new Promise(requestAnimationFrame);
    };
    const codes = await sampler.draw({
      label: Number(find("class").value),
      seed,
      temperature: Number(find("temperature").value),
      guidance: Number(find("guidance").value),
      onRow,
    });
    paint(find("drawn-image"), await sampler.decode(codes));
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const total = codes.top.length + codes.bottom.length;
    words.textContent = `${total} codes and their image in ${seconds} s, in this page`;
    document.body.dataset.drawn = JSON.stringify(codes);
  } catch (error) {
    if (number === newest) words.textContent = `nothing was drawn: ${error.message}`;
  }
}

for (const id of ["temperature", "guidance"])
  find(id).addEventListener("input", () => {
    find(`${id}-value`).textContent = Number(find(id).value).toFixed(2);
  });
find("draw").addEventListener("click", drawOnce);
find("another").addEventListener("click", () => {
  if (/^\d+$/.test(find("seed").value)) find("seed").value = BigInt(find("seed").value) + 1n;
  drawOnce();
});
const { guided } = await (await fetch(`${folder}/about.json`)).json();
find("guidance-label").hidden = !guided;
if (!guided) find("guidance").value = 0;
find("drawing").hidden = false;
