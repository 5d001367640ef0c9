// Prepares the same pixels as skinedge.core.preprocess.prepare: shorter side to S, bilinear with antialiasing, centre
// crop. A canvas resizes differently, so this repeats Pillow's Image.resize in integers: one direction after the other,
// each rounded to bytes.

import {Problem} from './problem.js';

const PRECISION = 22; // fractional bits of a weight
const LONGEST = 20; // largest aspect ratio that skinedge accepts
const STRIP = 256; // lines per read; limits the memory for large photos

// source: {width, height, block(left, top, width, height) -> RGBA bytes}; returns size * size * 3 bytes, RGB.
export function prepare(source, size) {
  const {width, height} = source;
  const short = Math.min(width, height);
  if (Math.max(width, height) > LONGEST * short) {
    throw new Problem(`The image, ${width} x ${height} pixels, is more than ${LONGEST} times as long as wide.`);
  }
  const columns = direction(width, size, short);
  const rows = direction(height, size, short);
  const out = new Uint8ClampedArray(size * size * 3);
  if (rows.removed > 2 * Math.max(columns.removed, 0)) { // Pillow's order, which affects rounding
    const strip = (start, count) => source.block(start, rows.from, count, rows.count);
    const middle = firstPass(rows, columns, (start, count) => ({pixels: strip(start, count), line: 4, step: count * 4}));
    secondPass(middle, columns, size, out, size * 3, 3);
  } else {
    const strip = (start, count) => source.block(columns.from, start, columns.count, count);
    const middle = firstPass(columns, rows, (start, count) => ({pixels: strip(start, count), line: columns.count * 4, step: 4}));
    secondPass(middle, rows, size, out, 3, size * 3);
  }
  return out;
}

// Plans the resizing in one direction. side: length of the source in pixels; short: of the source's shorter side.
// Returns {places, from, count, removed}: the weights of the `size` output pixels, the range of source pixels that they
// need, and the number of pixels that resizing removes.
export function direction(side, size, short) {
  const resized = Math.floor((side * size + Math.floor(short / 2)) / short);
  const places = weights(side, resized, Math.floor((resized - size) / 2), size);
  const last = places[size - 1];
  const from = places[0].first;
  return {places, from, count: last.first + last.factors.length - from, removed: side - resized};
}

// Returns the first source pixel and the weights for each output pixel inside the crop.
function weights(side, resized, cut, size) {
  if (resized === side) {
    return Array.from({length: size}, (_, place) => ({first: place + cut, factors: Int32Array.of(1 << PRECISION)}));
  }
  const scale = side / resized;
  const stretch = Math.max(scale, 1);
  return Array.from({length: size}, (_, place) => {
    const centre = (place + cut + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - stretch + 0.5), 0);
    const end = Math.min(Math.trunc(centre + stretch + 0.5), side);
    return {first, factors: triangle(first, end, centre, stretch)};
  });
}

function triangle(first, end, centre, stretch) {
  const raw = Array.from({length: end - first}, (_, index) =>
    Math.max(0, 1 - Math.abs((index + first - centre + 0.5) * (1 / stretch))),
  );
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  return Int32Array.from(raw, (weight) => Math.trunc((weight / total) * (1 << PRECISION) + 0.5));
}

// Resizes in the direction `along`, for each required line of the other direction. read(start, count) returns lines:
// {pixels, line, step}, with the strides between and along lines. Returns RGB, line by line.
function firstPass(along, other, read) {
  const size = along.places.length;
  const out = new Uint8ClampedArray(other.count * size * 3);
  for (let start = 0; start < other.count; start += STRIP) {
    const count = Math.min(STRIP, other.count - start);
    const {pixels, line, step} = read(other.from + start, count);
    for (let index = 0; index < count; index++) {
      mix(pixels, index * line, step, along, out, (start + index) * size * 3, 3);
    }
  }
  return out;
}

// Resizes the result of the first pass in the other direction. line, step: strides of the output between and along lines.
function secondPass(middle, along, size, out, line, step) {
  for (let index = 0; index < size; index++) mix(middle, index * 3, size * 3, along, out, index * line, step);
}

// Resizes one line: from[begin], from[begin + step], ... to to[at], to[at + next], ..., three bytes each.
function mix(from, begin, step, {places, from: skipped}, to, at, next) {
  for (const {first, factors} of places) {
    let red = 1 << (PRECISION - 1);
    let green = red;
    let blue = red;
    let pixel = begin + (first - skipped) * step;
    for (const factor of factors) {
      red += from[pixel] * factor;
      green += from[pixel + 1] * factor;
      blue += from[pixel + 2] * factor;
      pixel += step;
    }
    to[at] = red >> PRECISION;
    to[at + 1] = green >> PRECISION;
    to[at + 2] = blue >> PRECISION;
    at += next;
  }
}
