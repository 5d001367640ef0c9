// Decodes a file or a video frame to pixels with the browser: rotated by EXIF, transparency on white, colours by the rule
// of the model's card, like skinedge.core.image_file.load_image.

import {readProfile, toSrgb} from './colour.js';
import {readContainer} from './container.js';
import {Problem} from './problem.js';

const MAX_PIXELS = 50331648; // skinedge's limit: the largest photo of a "50 megapixel" camera, 8192 x 6144
const CONVERT = 'Convert it to an 8-bit JPEG or PNG file, or use skinedge predict.';

// blob: an image file; colour: 'srgb' or 'as-stored'. Returns a source for `prepare` in resize.js, with close() and a
// remark on its colours, '' without one. Throws: Problem.
export async function decode(blob, colour) {
  try {
    refuseLarge(await countPixels(blob));
    const file = await readContainer(new Uint8Array(await blob.arrayBuffer()));
    if (file.bits === 16) throw new Problem('A browser reads 16-bit PNG files differently from skinedge.', CONVERT);
    if (colour === 'srgb' && file.kind === null) {
      throw new Problem('The colour profile of this kind of file cannot be read here.', CONVERT);
    }
    const {table, remark} = conversion(file.profile, colour);
    const plain = file.parts ? new Blob(file.parts) : blob;
    const bitmap = await createImageBitmap(plain, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
    return {...source(bitmap, table), remark};
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(
      `${blob.name ?? 'The file'} is not an image that this browser can read.`,
      'JPEG, PNG and WebP files can be read everywhere.',
    );
  }
}

function conversion(bytes, colour) {
  const {name, problem, table} = bytes ? readProfile(bytes) : {problem: null, table: null};
  if (table === null && problem === null) return {table, remark: ''};
  if (colour === 'as-stored') return {table: null, remark: ` The colour profile ${name} is ignored, as in training.`};
  if (problem) return {table, remark: ` Colours as stored: the profile ${name} is ${problem} and not converted.`};
  return {table, remark: ` Colours converted to sRGB from the profile ${name}.`};
}

function refuseLarge(pixels) {
  if (pixels > MAX_PIXELS) {
    const [size, limit] = [pixels, MAX_PIXELS].map((number) => (number / 1e6).toFixed(1));
    throw new Problem(`The image of ${size} megapixels is larger than the limit of ${limit}.`);
  }
}

// Reads only the header: browsers decode an image when it is drawn, and this one never is.
async function countPixels(blob) {
  const image = new Image();
  const address = URL.createObjectURL(blob);
  try {
    await new Promise((loaded, failed) => {
      image.onload = loaded;
      image.onerror = failed;
      image.src = address;
    });
    return image.naturalWidth * image.naturalHeight;
  } finally {
    URL.revokeObjectURL(address);
  }
}

// video: a playing video element. Returns its current frame as a source, like `decode`.
export async function frame(video) {
  return {...source(await createImageBitmap(video), null), remark: ''};
}

// bytes: RGB, row by row. Returns a source for decoded pixels.
export function raw(bytes, width, height) {
  const block = (left, top, columns, rows) => {
    const rgba = new Uint8ClampedArray(columns * rows * 4);
    for (let to = 0; to < rgba.length; to += 4) {
      const at = to / 4;
      const from = ((top + Math.floor(at / columns)) * width + left + (at % columns)) * 3;
      rgba.set(bytes.subarray(from, from + 3), to);
    }
    return rgba;
  };
  return {width, height, block, close() {}};
}

function source(bitmap, table) {
  const {width, height} = bitmap;
  const canvas = document.createElement('canvas');
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const block = (left, top, columns, rows) => {
    canvas.width = columns; // also clears it
    canvas.height = rows;
    pen.fillStyle = 'white';
    pen.fillRect(0, 0, columns, rows);
    pen.drawImage(bitmap, -left, -top);
    const pixels = pen.getImageData(0, 0, columns, rows).data;
    if (table) toSrgb(pixels, table);
    return pixels;
  };
  return {width, height, block, close: () => bitmap.close()};
}
