// Self-check before the first prediction: synthetic images must give the same pixels and probabilities as in Python.

import {raw} from './decode.js';
import {get, sha256} from './model.js';
import {Problem} from './problem.js';
import {prepare} from './resize.js';

// check: from site.json: {file, limit, images: [{width, height, offset, prepared_sha256, probabilities}]}.
// Returns {images: prepared pixels, largest: difference of a probability, firstMs: of the first inference}. Throws: Problem.
export async function selfCheck(model, check) {
  const bytes = new Uint8Array(await (await get(check.file)).arrayBuffer());
  const images = [];
  let largest = 0;
  let firstMs = null;
  for (const {width, height, offset, prepared_sha256: expected, probabilities} of check.images) {
    const pixels = prepare(raw(bytes.subarray(offset, offset + width * height * 3), width, height), model.card.resize.size);
    if ((await sha256(pixels)) !== expected) refuse('an image comes out of the resizing with other pixels than in Python');
    const started = performance.now();
    const actual = (await model.run(pixels)).probabilities;
    firstMs ??= performance.now() - started;
    largest = Math.max(largest, ...probabilities.map((value, index) => Math.abs(value - actual[index])));
    images.push(pixels);
  }
  if (!(largest <= check.limit)) refuse(`a probability differs from Python's by ${largest.toFixed(3)}`);
  return {images, largest, firstMs};
}

function refuse(what) {
  throw new Problem(`The self-check failed: ${what}. Nothing is predicted.`, 'Try another browser.');
}
