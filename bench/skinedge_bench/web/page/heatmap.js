// Draws the heatmap of a class over the image in grey, in the colours of skinedge_bench.explain.overlay.

// pixels: size * size * 3 bytes; heatmap: from model.js; index: of the class; look: {steps, opacity}.
// Returns {image: ImageData, low, high}: the image, and the smallest and largest value of the map.
export function overlay(pixels, size, heatmap, index, look) {
  const map = channel(heatmap, index);
  const high = Math.max(...map);
  const level = map.map((value) => (high > 0 ? Math.max(value, 0) / high : 0));
  const image = new ImageData(size, size);
  const down = weights(heatmap.height, size), across = weights(heatmap.width, size);
  for (let row = 0, at = 0; row < size; row++) {
    for (let column = 0; column < size; column++, at++) {
      const value = interpolated(level, heatmap.width, down[row], across[column]);
      image.data.set(tint(luma(pixels, at * 3), value, look), at * 4);
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

// Returns the map of a class, row by row.
export function channel({values, height, width, classes}, index) {
  return Array.from({length: height * width}, (_, cell) => values[cell * classes + index]);
}

// Returns, for each pixel of an axis, the cells within two cells of it as [cell, weight]; the weights sum to 1.
function weights(cells, pixels) {
  return Array.from({length: pixels}, (_, pixel) => {
    const place = (pixel + 0.5) * cells / pixels - 0.5, near = [];
    for (let cell = Math.ceil(place - 2); cell <= place + 2; cell++) {
      if (cell >= 0 && cell < cells) near.push([cell, cubic(Math.abs(cell - place))]);
    }
    const sum = near.reduce((total, [, weight]) => total + weight, 0);
    return near.map(([cell, weight]) => [cell, weight / sum]);
  });
}

// The kernel of cubic convolution (Keys 1981, a = -1/2), as Pillow's BICUBIC.
function cubic(distance) {
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  return distance < 2 ? ((2.5 - 0.5 * distance) * distance - 4) * distance + 2 : 0;
}

function interpolated(level, width, down, across) {
  let sum = 0;
  for (const [row, tall] of down) for (const [column, wide] of across) sum += level[row * width + column] * tall * wide;
  return Math.min(Math.max(sum, 0), 1);
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
