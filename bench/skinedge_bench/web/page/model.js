// Loads the model file and its card, and checks both before any prediction.

import {Problem} from './problem.js';

const CARD = 'skinedge.file/1';
const RULE = ['shorter-side-bilinear-antialias', 'centre'];
const COLOURS = ['as-stored', 'srgb'];
const RUNTIMES = {'litert.js': './litert.js', 'onnxruntime-web': './ort.js'};
const AGAIN = 'Make the page again with: skinedge web --out DIR';

// settings: site.json. Returns {card, colour, threshold, labels, malignant, loadMs, backend, run(pixels)}. Throws: Problem.
export async function load(settings) {
  const card = await json(settings.card);
  const labels = labelsOf(card);
  const bytes = new Uint8Array(await (await get(settings.model)).arrayBuffer());
  await checkBytes(bytes, card);
  const started = performance.now();
  const session = await opened(settings.runtime.name, bytes);
  const loadMs = performance.now() - started;
  checkTensors(session, card);
  return {
    card,
    colour: colourOf(card),
    labels,
    malignant: card.malignant_score.sum_of.map((label) => labels.indexOf(label)),
    threshold: card.malignant_score.flag_from,
    loadMs,
    backend: session.backend,
    run: (pixels) => run(session, card, pixels),
  };
}

// Fetches a file of the site. Throws: Problem for a missing file.
export async function get(path) {
  let answer;
  try {
    answer = await fetch(path, {cache: 'no-cache'});
  } catch (error) {
    throw new Problem(`${path} cannot be fetched: the server of this page does not answer.`, 'Start skinedge web again.');
  }
  if (!answer.ok) throw new Problem(`${path} is missing from this site (${answer.status}).`, AGAIN);
  return answer;
}

export async function json(path) {
  try {
    return await (await get(path)).json();
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(`${path} is damaged: ${error.message}.`, AGAIN);
  }
}

// Returns the SHA-256 hash of bytes in hex. Throws: Problem if the browser does not provide it.
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new Problem(
      'This browser cannot check the model here: pages get SHA-256 only over https or from localhost.',
      'Open the page over https, or on the machine that serves it as http://127.0.0.1.',
    );
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// Returns the labels in the order of the outputs. Throws: Problem for an invalid card.
function labelsOf(card) {
  try {
    return checkCard(card);
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(`The model's card cannot be used: ${error.message}.`, AGAIN);
  }
}

function checkCard(card) {
  const refuse = (what) => {
    throw new Problem(`The model's card cannot be used: ${what}.`, AGAIN);
  };
  if (card.schema !== CARD) refuse(`its schema is '${card.schema}', expected '${CARD}'`);
  const {resize, crop, size} = card.resize;
  if (resize !== RULE[0] || crop !== RULE[1]) refuse(`this page does not know the resizing '${resize}', '${crop}'`);
  if (!COLOURS.includes(colourOf(card))) refuse(`this page does not know the colour rule '${colourOf(card)}'`);
  const {layout, colour, shape, dtype, black, white} = card.input;
  if (layout !== 'NHWC' || colour !== 'RGB') refuse(`its input is ${layout} ${colour}, expected NHWC RGB`);
  if (!['float32', 'uint8'].includes(dtype)) refuse(`its input is ${dtype}, expected float32 or uint8`);
  if (!same(shape, [1, size, size, 3])) refuse(`its input has the shape ${shape}, expected 1, ${size}, ${size}, 3`);
  if (!(black < white)) refuse(`black is ${black} and white ${white}`);
  const labels = card.classes.map(({label}) => label);
  if (card.classes.some(({index}, place) => index !== place)) refuse('its classes are not in order');
  const {sum_of: parts, flag_from: threshold} = card.malignant_score;
  if (!parts.every((label) => labels.includes(label))) refuse('its malignant score counts a class that it does not have');
  if (!(threshold === null || (typeof threshold === 'number' && threshold >= 0))) refuse(`its threshold is ${threshold}`);
  const probabilities = card.outputs.find(({name}) => name === 'probabilities');
  if (!probabilities || !same(probabilities.shape, [1, labels.length])) refuse('it gives no probability for each class');
  return labels;
}

// Cards of earlier models do not state the rule: they were trained on colours as stored.
function colourOf(card) {
  return card.resize.colour ?? 'as-stored';
}

async function checkBytes(bytes, card) {
  const digest = await sha256(bytes);
  if (digest === card.sha256) return;
  throw new Problem(
    `The model file is not the one that its card describes: ${card.file} has the SHA-256 hash ${digest.slice(0, 12)}..., ` +
      `expected ${card.sha256.slice(0, 12)}.... It was changed or damaged, so nothing is predicted.`,
    AGAIN,
  );
}

async function opened(runtime, bytes) {
  if (typeof WebAssembly === 'undefined') {
    throw new Problem('This browser has no WebAssembly, in which the model runs.', 'Use a current browser.');
  }
  try {
    return await (await import(RUNTIMES[runtime])).open(bytes);
  } catch (error) {
    throw new Problem(
      `This browser cannot run the model (${runtime}: ${error?.message ?? error}).`,
      'A current version of Chrome, Edge, Firefox or Safari can.',
    );
  }
}

function checkTensors(session, card) {
  const agree = (actual, expected) => actual && actual.dtype === expected.dtype && same(actual.shape, expected.shape);
  const outputs = card.outputs.map((expected) => [session.outputs.find(({name}) => name === expected.name), expected]);
  const mismatch = [[session.inputs[0], card.input], ...outputs].find(([actual, expected]) => !agree(actual, expected));
  if (!mismatch) return;
  throw new Problem(`The model file and its card disagree about '${mismatch[1].name}', so nothing is predicted.`, AGAIN);
}

// pixels: size * size * 3 bytes. Returns {probabilities, heatmap: {values, height, width, classes} | null}.
async function run(session, card, pixels) {
  const outputs = await session.run(encode(pixels, card.input));
  const total = outputs.probabilities.reduce((sum, value) => sum + value, 0);
  if (!(Math.abs(total - 1) < 1e-3)) throw new Problem(`The model gave no probabilities: they sum to ${total}.`);
  const map = card.outputs.find(({name}) => name === 'heatmap');
  const [height, width, classes] = map ? map.shape.slice(1) : [];
  return {
    probabilities: outputs.probabilities,
    heatmap: map ? {values: outputs.heatmap, height, width, classes} : null,
  };
}

function encode(pixels, {dtype, black, white}) {
  if (dtype === 'uint8') return Uint8Array.from(pixels);
  return Float32Array.from(pixels, (pixel) => black + (pixel * (white - black)) / 255);
}

// Compares two shapes; -1 is a free dimension and equals any.
function same(one, other) {
  return one.length === other.length && one.every((side, axis) => side === other[axis] || side === -1 || other[axis] === -1);
}
