// Converts RGB pixels with an embedded ICC profile to sRGB by one integer table: byte for byte as skinedge.core.colour,
// which explains it. Math.pow is not used, since browsers round it differently.

const FROM_XYZ = [
  [52584397, -27133356, -8233164],
  [-16421465, 32147857, 561266],
  [1207600, -3841813, 23584544],
];
const SRGB_GAMMA = 157286; // 2.4 in units of 2^-16
const LARGEST = 4 * 65536;
const PARAMETERS = [1, 3, 4, 5, 7];
const BIAS = 24576;
const PROBLEM = {GRAY: 'for grey images', CMYK: 'for CMYK images'};

class Unsupported extends Error {}

// data: Uint8Array of an ICC profile. Returns {name, problem, table}: problem says why the profile is not converted, null
// if it is understood; table is null for sRGB and with a problem. Any bytes give a result.
export function readProfile(data) {
  const name = attempt(() => description(data)) ?? 'without a name';
  try {
    const table = buildTable(colorants(data), ['rTRC', 'gTRC', 'bTRC'].map((tag) => curve(findTag(data, tag))));
    return {name, problem: null, table: isSrgb(table) ? null : table};
  } catch (error) {
    if (error instanceof Unsupported) return {name, problem: error.message, table: null};
    if (error instanceof RangeError) return {name, problem: 'damaged', table: null};
    throw error;
  }
}

// Converts RGBA bytes in place; transparency stays.
export function toSrgb(rgba, table) {
  const bytes = encoding();
  for (let at = 0; at < rgba.length; at += 4) {
    const red = rgba[at] * 3;
    const green = (256 + rgba[at + 1]) * 3;
    const blue = (512 + rgba[at + 2]) * 3;
    for (let output = 0; output < 3; output++) {
      rgba[at + output] = bytes[BIAS + table[red + output] + table[green + output] + table[blue + output]];
    }
  }
}

function attempt(read) {
  try {
    return read();
  } catch (error) {
    return null;
  }
}

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function text(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function description(data) {
  const tag = findTag(data, 'desc');
  const fields = view(tag);
  let found;
  if (text(tag, 0) === 'mluc') {
    const at = fields.getUint32(24);
    found = new TextDecoder('utf-16be', {fatal: true}).decode(tag.subarray(at, at + fields.getUint32(20)));
  } else {
    found = String.fromCharCode(...tag.subarray(12, Math.min(12 + fields.getUint32(8), 1000)));
  }
  const words = found.replaceAll('\0', ' ').split(/\s+/).filter(Boolean).join(' ').slice(0, 60);
  return words ? `'${words}'` : null;
}

function findTag(data, name) {
  const fields = view(data);
  const count = Math.min(fields.getUint32(128), 1000);
  for (let entry = 0; entry < count; entry++) {
    const at = 132 + 12 * entry;
    const [offset, size] = [fields.getUint32(at + 4), fields.getUint32(at + 8)];
    if (text(data, at) !== name) continue;
    if (offset + size > data.length) break;
    return data.subarray(offset, offset + size);
  }
  throw new Unsupported('damaged');
}

function hasTag(data, name) {
  try {
    return findTag(data, name).length > 0;
  } catch (error) {
    if (error instanceof Unsupported) return false;
    throw error;
  }
}

function colorants(data) {
  if (text(data, 36) !== 'acsp' || view(data).getUint32(0) > data.length) throw new Unsupported('damaged');
  if (text(data, 16) !== 'RGB ') throw new Unsupported(PROBLEM[text(data, 16)] ?? 'for other than RGB images');
  const lookup = ['A', 'D'].flatMap((kind) => [0, 1, 2, 3].map((intent) => `${kind}2B${intent}`));
  if (text(data, 20) !== 'XYZ ' || lookup.some((name) => hasTag(data, name))) throw new Unsupported('made of lookup tables');
  return ['rXYZ', 'gXYZ', 'bXYZ'].map((name) => {
    const tag = findTag(data, name);
    const fields = view(tag);
    const xyz = [8, 12, 16].map((at) => fields.getInt32(at));
    if (text(tag, 0) !== 'XYZ ' || xyz.some((value) => Math.abs(value) >= LARGEST)) throw new Unsupported('damaged');
    return xyz;
  });
}

function curve(tag) {
  const fields = view(tag);
  const [kind, number] = [text(tag, 0), fields.getUint16(8)];
  if (kind === 'para' && number < PARAMETERS.length) {
    return parametric(number, Array.from({length: PARAMETERS[number]}, (_, index) => fields.getInt32(12 + 4 * index)));
  }
  if (kind !== 'curv') throw new Unsupported('damaged');
  const count = fields.getUint32(8);
  if (12 + 2 * count > tag.length) throw new Unsupported('damaged');
  const value = (index) => fields.getUint16(12 + 2 * Math.min(index, count - 1));
  if (count === 0) return Array.from({length: 256}, (_, byte) => 257 * byte);
  if (count === 1) return parametric(0, [value(0) * 256]);
  return Array.from({length: 256}, (_, byte) => {
    const place = byte * (count - 1);
    const [at, rest] = [Math.floor(place / 255), place % 255];
    return Math.floor((value(at) * (255 - rest) + value(at + 1) * rest + 127) / 255);
  });
}

function parametric(kind, parameters) {
  const gamma = parameters[0];
  if (!(gamma > 0 && gamma <= 16 * 65536)) throw new Unsupported('damaged');
  const [first, b = 0, c = 0, d = 0, e = 0, f = 0] = parameters.slice(1).map((value) => value / 65536);
  const a = kind ? first : 1;
  return Array.from({length: 256}, (_, byte) => {
    const x = byte / 255;
    const base = a * x + b;
    const above = power(Math.max(base, 0), gamma);
    if (kind < 3) return round16((base >= 0 ? above : 0) + (kind === 2 ? c : 0));
    return round16(x >= d ? above + e : c * x + f);
  });
}

function power(base, exponent) {
  let result = 1;
  for (let step = 0; step < exponent >> 16; step++) result *= base;
  let root = base;
  for (let bit = 15; bit >= 0; bit--) {
    root = Math.sqrt(root);
    if ((exponent >> bit) & 1) result *= root;
  }
  return result;
}

function round16(value) {
  return Math.floor(Math.min(Math.max(value, 0), 1) * 65535 + 0.5);
}

// Returns 3 channels x 256 bytes x 3 outputs.
function buildTable(columns, curves) {
  const table = new Int32Array(3 * 256 * 3);
  FROM_XYZ.forEach((row, output) => {
    let [least, most] = [0, 0];
    curves.forEach((light, channel) => {
      const sum = row[0] * columns[channel][0] + row[1] * columns[channel][1] + row[2] * columns[channel][2];
      const factor = Math.floor((sum + 2 ** 23) / 2 ** 24);
      const values = light.map((value) => Math.floor((factor * value + 2 ** 17) / 2 ** 18));
      values.forEach((value, byte) => (table[(channel * 256 + byte) * 3 + output] = value));
      least += Math.min(...values);
      most += Math.max(...values);
    });
    if (least < -BIAS || most >= 65536 - BIAS) throw new Unsupported('outside the range of the conversion');
  });
  return table;
}

function isSrgb(table) {
  const levels = Array.from({length: 9}, (_, step) => Math.floor((255 * step) / 8));
  const grid = levels.flatMap((red) => levels.flatMap((green) => levels.flatMap((blue) => [red, green, blue, 255])));
  const converted = Uint8Array.from(grid);
  toSrgb(converted, table);
  return converted.every((value, at) => Math.abs(value - grid[at]) <= 1);
}

function srgbLinear(x) {
  return x <= 0.04045 ? x / 12.92 : power((x + 0.055) / 1.055, SRGB_GAMMA);
}

let encoded = null;

function encoding() {
  if (encoded) return encoded;
  encoded = new Uint8Array(65536);
  let byte = 0;
  const bound = () => Math.ceil(16383.75 * srgbLinear((2 * byte + 1) / 510));
  for (let light = -BIAS; light < 65536 - BIAS; light++) {
    while (byte < 255 && light >= bound()) byte++;
    encoded[light + BIAS] = byte;
  }
  return encoded;
}
