// Draws images in the browser with the graphs of `pixelprior export-onnx`.
//
// What is done here is `OnnxSampler` in pixelprior/onnx/sampler.py, step by step, with
// the random numbers of pixelprior/sampling.py: the same seed gives the same codes.
import * as ort from "./ort/ort.wasm.min.mjs";

const here = new URL(".", import.meta.url).href;
ort.env.wasm.wasmPaths = `${here}ort/`;
ort.env.wasm.numThreads = 1; // more threads need headers that a static host does not send

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** A seed from text: a whole number from 0 to 2^64 - 1. */
export function seedOf(text) {
  const seed = /^\d+$/.test(text) ? BigInt(text) : -1n;
  if (seed < 0n || seed > MASK)
    throw new Error(`the seed is ${text || "empty"}; give a whole number from 0 to 2^64-1`);
  return seed;
}

/** `uniforms` of one image: Philox4x64-10 (Salmon et al. 2011), keyed by both numbers. */
export function uniforms(seed, index, count) {
  const numbers = [];
  for (let block = 1n; numbers.length < count; block++) {
    let [a, b, c, d] = [block, 0n, 0n, 0n];
    let [key, other] = [BigInt(seed), BigInt(index)];
    for (let round = 0; round < 10; round++) {
      const one = a * MULTIPLIERS[0];
      const two = c * MULTIPLIERS[1];
      [a, b, c, d] = [(two >> 64n) ^ b ^ key, two & MASK, (one >> 64n) ^ d ^ other, one & MASK];
      key = (key + WEYL[0]) & MASK;
      other = (other + WEYL[1]) & MASK;
    }
    for (const word of [a, b, c, d]) numbers.push(Number(word >> 12n) * 2 ** -52);
  }
  return numbers.slice(0, count);
}

/** The first code whose cumulative probability exceeds u. */
export function drawCode(logits, u, temperature) {
  const highest = Math.max(...logits);
  const weights = logits.map((each) => Math.exp((each - highest) / temperature));
  const cumulative = [];
  let sum = 0;
  for (const weight of weights) cumulative.push((sum += weight));
  const code = cumulative.findIndex((each) => each > u * sum);
  return code < 0 ? logits.length - 1 : code;
}

const integers = (values, shape) =>
  new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
const zeros = (shape) =>
  new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

/** The graphs of a folder, loaded once. */
export class Sampler {
  static async load(folder, progress = () => {}) {
    const sampler = new Sampler();
    sampler.about = await (await fetch(`${folder}/about.json`)).json();
    sampler.graphs = {};
    const names = Object.keys(sampler.about.graphs);
    for (const [number, name] of names.entries()) {
      progress(number / names.length);
      sampler.graphs[name] = await ort.InferenceSession.create(`${folder}/${name}.onnx`);
    }
    progress(1);
    return sampler;
  }

  async run(name, ...inputs) {
    const given = {};
    this.about.graphs[name].forEach((key, i) => {
      if (this.graphs[name].inputNames.includes(key)) given[key] = inputs[i];
    });
    const found = await this.graphs[name].run(given);
    return this.graphs[name].outputNames.map((key) => found[key]);
  }

  /**
   * Draw one image of a class.
   *
   * `onRow(level, codes)` is called after each row with all codes so far. Returns the
   * codes of both levels.
   */
  async draw({ label, seed = 0, temperature = 1, guidance = 0, onRow = async () => {} }) {
    const { grids, num_classes: unlabelled } = this.about;
    const levels = ["top", "bottom"];
    const counts = levels.map((level) => grids[level][0] * grids[level][1]);
    const numbers = uniforms(seed, 0, counts[0] + counts[1]);
    const twice = guidance ? 2 : 1; // the second half of the batch has no label
    const labels = integers([label, unlabelled].slice(0, twice), [twice]);
    const drawn = {};
    for (const [i, level] of levels.entries()) {
      const [height, width] = grids[level];
      const above = i ? [this.codes(drawn.top, grids.top, twice)] : [];
      const [condition] = await this.run(`${level}_condition`, labels, ...above);
      const own = numbers.slice(i ? counts[0] : 0, i ? undefined : counts[0]);
      drawn[level] = [];
      const kept = {};
      for (const [name, sides] of Object.entries(this.about.kept[level]))
        kept[name] = sides.map((side) => (side === "B" ? twice : side));
      let rows = [zeros(kept.first_rows), zeros(kept.rows)];
      let ofAttention = kept.past ? [zeros(kept.past), zeros(kept.located)] : [];
      let last = this.about.num_embeddings; // in the grid, where `left` is in the row
      let row = new Array(width).fill(this.about.num_embeddings);
      for (let y = 0; y < height; y++) {
        const ofRow = rowOf(condition, y);
        const before = this.codes(row, [width], twice);
        const [across, ...newRows] = await this.run(`${level}_row`, before, ofRow, ...rows);
        rows = newRows;
        let codes = [zeros(kept.first_codes), zeros(kept.codes)];
        let left = this.about.num_embeddings;
        row = [];
        for (let x = 0; x < width; x++) {
          const step = [this.codes([left], [], twice), integers([x], [1]), across, ...codes];
          if (kept.past)
            step.push(integers([y * width + x], [1]), this.codes([last], [], twice), ...ofAttention);
          const [logits, ...found] = await this.run(`${level}_code`, ...step);
          codes = found.slice(0, 2);
          ofAttention = found.slice(2);
          last = left = drawCode(guided(logits, guidance), own[y * width + x], temperature);
          row.push(left);
        }
        drawn[level].push(...row);
        await onRow(level, drawn[level]);
      }
    }
    return drawn;
  }

  codes(values, shape, times) {
    const all = [];
    for (let i = 0; i < times; i++) all.push(...values);
    return integers(all, [times, ...shape]);
  }

  /** The image of both grids: numbers in [0, 1], and [channels, height, width]. */
  async decode(drawn) {
    const { top, bottom } = this.about.grids;
    const [image] = await this.run(
      "decoder", this.codes(drawn.top, top, 1), this.codes(drawn.bottom, bottom, 1),
    );
    return { pixels: image.data, shape: image.dims.slice(1) };
  }
}

/** Row y of a condition [B, p, H, W]; the condition itself if it is one for all. */
function rowOf(condition, y) {
  const [batch, channels, height, width] = condition.dims;
  if (height === 1) return condition;
  const row = new Float32Array(batch * channels * width);
  for (let i = 0; i < batch * channels; i++) {
    const start = (i * height + y) * width;
    row.set(condition.data.subarray(start, start + width), i * width);
  }
  return new ort.Tensor("float32", row, [batch, channels, 1, width]);
}

/** (1 + w) · with label − w · without (arXiv 2207.12598, equation 6). */
function guided(logits, w) {
  const count = logits.dims[1];
  const own = Array.from(logits.data.subarray(0, count));
  if (!w) return own;
  return own.map((each, i) => (1 + w) * each - w * logits.data[count + i]);
}
