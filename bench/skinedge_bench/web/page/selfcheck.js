// Before a person's image is judged: drawn images, prepared and judged here, must come out as they did in Python.

import {raw} from './decode.js';
import {get, sha256} from './model.js';
import {Problem} from './problem.js';
import {prepare} from './resize.js';

// check: of site.json: {file, limit, images: [{width, height, offset, prepared_sha256, probabilities}]}.
// Returns {images: prepared pixels, largest: difference of a probability, firstMs: of the first inference}. Raises: Problem.
export async function selfCheck(model, check) {
  const bytes = new Uint8Array(await (await get(check.file)).arrayBuffer());
  const images = [];
  let largest = 0;
  let firstMs = null;
  for (const {width, height, offset, prepared_sha256: expected, probabilities} of check.images) {
    const pixels = prepare(raw(bytes.subarray(offset, offset + width * height * 3), width, height), model.card.resize.size);
    if ((await sha256(pixels)) !== expected) refuse('an image comes out of the resizing with other pixels than in Python');
    const started = performance.now();
    const found = (await model.run(pixels)).probabilities;
    firstMs ??= performance.now() - started;
    largest = Math.max(largest, ...probabilities.map((value, index) => Math.abs(value - found[index])));
    images.push(pixels);
  }
  if (!(largest <= check.limit)) refuse(`a probability differs from Python's by ${largest.toFixed(3)}`);
  return {images, largest, firstMs};
}

function refuse(what) {
  throw new Problem(`The self-check failed: ${what}. Nothing is predicted.`, 'Try another browser.');
}
