// Draws the heatmap of a class over the image in grey, in the colours of skinedge_bench.explain.overlay.

// pixels: size * size * 3 bytes; heatmap: from model.js; index: of the class; look: {steps, opacity}.
// Returns {image: ImageData, low, high}: the image, and the smallest and largest value of the map.
export function overlay(pixels, size, heatmap, index, look) {
  const map = channel(heatmap, index);
  const high = Math.max(...map);
  const level = map.map((value) => (high > 0 ? Math.max(value, 0) / high : 0));
  const image = new ImageData(size, size);
  for (let row = 0, at = 0; row < size; row++) {
    for (let column = 0; column < size; column++, at++) {
      const grey = luma(pixels, at * 3);
      const value = between(level, heatmap, (row + 0.5) / size, (column + 0.5) / size);
      image.data.set(tint(grey, value, look), at * 4);
    }
  }
  return {image, low: Math.min(...map), high};
}

// Returns one row of the colour scale over middle grey, from no evidence to the most.
export function scale(width, look) {
  const image = new ImageData(width, 1);
  for (let column = 0; column < width; column++) image.data.set(tint(190, column / (width - 1), look), column * 4);
  return image;
}

function channel({values, height, width, classes}, index) {
  return Array.from({length: height * width}, (_, cell) => values[cell * classes + index]);
}

// Interpolates bilinearly, constant beyond the centres of the outermost cells; down, across: 0..1.
function between(level, {height, width}, down, across) {
  const [top, bottom, lower] = neighbours(down * height - 0.5, height);
  const [left, right, later] = neighbours(across * width - 0.5, width);
  const mix = (row) => level[row * width + left] * (1 - later) + level[row * width + right] * later;
  return mix(top) * (1 - lower) + mix(bottom) * lower;
}

function neighbours(place, count) {
  const inside = Math.min(Math.max(place, 0), count - 1);
  const first = Math.floor(inside);
  return [first, Math.min(first + 1, count - 1), inside - first];
}

function luma(pixels, at) {
  return (pixels[at] * 19595 + pixels[at + 1] * 38470 + pixels[at + 2] * 7471 + 0x8000) >> 16; // like Pillow's mode L
}

function tint(grey, level, {steps, opacity}) {
  const [first, second, part] = neighbours(level * (steps.length - 1), steps.length);
  const strength = opacity * Math.min(2 * level, 1);
  const mixed = [0, 1, 2].map((c) => grey * (1 - strength) + (steps[first][c] * (1 - part) + steps[second][c] * part) * strength);
  return [...mixed, 255];
}
