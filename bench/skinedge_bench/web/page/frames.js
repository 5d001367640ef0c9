// Finds frames in heatmaps: the rule of skinedge_bench.explain.frames; both replay tests/frame_vectors.json.

const HOT = 0.5; // of the strongest cell
const SIDES = 3; // of a ring's four; a spot at the border has two at most
const Z = 1.959963984540054; // of a 95 % interval

export const RINGS = ['outermost ring of cells', 'second ring of cells from the border'];

// map: height * width values, row by row. Returns the index of the ring in RINGS that is a frame, null where none is.
export function frameRing(map, height, width) {
  const high = Math.max(...map);
  if (!(high > 0)) return null;
  const cells = Array.from({length: height * width}, (_, cell) => {
    const row = Math.floor(cell / width), column = cell % width;
    return {row, column, hot: map[cell] >= HOT * high, ring: Math.min(row, height - 1 - row, column, width - 1 - column)};
  });
  const hot = cells.filter((cell) => cell.hot);
  for (let ring = 0; ring < RINGS.length; ring++) {
    const inRing = (list) => list.filter((cell) => cell.ring === ring);
    const share = inRing(cells).length / cells.length, inside = inRing(hot);
    if (sides(inside, ring, height, width) >= SIDES && wilsonLow(inside.length, hot.length) > share) return ring;
  }
  return null;
}

// Counts the sides of a ring with a hot cell; corners belong to no side.
function sides(hot, ring, height, width) {
  const bottom = height - 1 - ring, right = width - 1 - ring;
  const between = (place, end) => place > ring && place < end;
  return [
    ({row, column}) => row === ring && between(column, right),
    ({row, column}) => row === bottom && between(column, right),
    ({row, column}) => column === ring && between(row, bottom),
    ({row, column}) => column === right && between(row, bottom),
  ].filter((side) => hot.some(side)).length;
}

// The lower end of Wilson's 95 % interval for a share, as in skinedge.stats.metrics.
function wilsonLow(hits, n) {
  if (hits === 0) return 0;
  const share = hits / n, weight = Z * Z / n;
  const half = Z / (1 + weight) * Math.sqrt(share * (1 - share) / n + weight / (4 * n));
  return Math.max(0, (share + weight / 2) / (1 + weight) - half);
}
