// Reads the colour profile of an image file and removes it, so that every browser decodes the stored values: what
// skinedge.core.colour converts is converted by colour.js alone.

const PROFILE = 'ICC_PROFILE\0';
const PNG_COLOURS = ['iCCP', 'sRGB', 'gAMA', 'cHRM', 'cICP']; // chunks that change how a browser decodes
const MAX_PROFILE = 1 << 20; // bytes: Pillow's limit of a decompressed chunk
const WEBP_PROFILE = 0x20; // flag of the VP8X chunk

// bytes: Uint8Array of a file. Returns {kind, bits, profile, parts}: 'JPEG', 'PNG', 'WebP', 'GIF', 'BMP' or null; bits
// per value of a PNG, else 8; Uint8Array, empty if damaged, or null; the parts of the file without its profile, null where nothing is removed.
// Throws: RangeError for a file that is cut off in its header.
export async function readContainer(bytes) {
  const file = {kind: null, bits: 8, profile: null, parts: null};
  if (text(bytes, 0, 3) === '\xff\xd8\xff') return {...file, kind: 'JPEG', ...jpeg(bytes)};
  if (text(bytes, 0, 8) === '\x89PNG\r\n\x1a\n') return {...file, kind: 'PNG', ...(await png(bytes))};
  if (text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 4) === 'WEBP') return {...file, kind: 'WebP', ...webp(bytes)};
  return {...file, kind: text(bytes, 0, 4) === 'GIF8' ? 'GIF' : text(bytes, 0, 2) === 'BM' ? 'BMP' : null};
}

function text(bytes, at, length) {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

// Segments up to the first scan. A profile is spread over APP2 segments before the frame, which state their number.
function jpeg(bytes) {
  const data = view(bytes);
  const pieces = [];
  const cuts = [];
  let framed = false;
  let at = 2;
  for (;;) {
    while (data.getUint8(at) !== 0xff) at++;
    const code = data.getUint8(at + 1);
    if (code === 0xff) {
      at++;
    } else if (code < 0x02 || (code >= 0xd0 && code <= 0xd9)) {
      at += 2; // without a length
    } else {
      if (code === 0xda) break;
      const end = at + 2 + data.getUint16(at + 2);
      framed ||= code >= 0xc0 && code <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(code);
      if (code === 0xe2 && text(bytes, at + 4, 12) === PROFILE) {
        if (!framed) pieces.push(bytes.subarray(at + 16, end));
        cuts.push([at, end]);
      }
      at = end;
    }
  }
  pieces.sort((one, other) => one[0] - other[0]);
  const whole = pieces[0]?.[1] === pieces.length;
  const profile = pieces.length ? joined(whole ? pieces.map((piece) => piece.subarray(2)) : []) : null;
  return {profile, parts: without(bytes, cuts)};
}

// Chunks up to the first pixels.
async function png(bytes) {
  const data = view(bytes);
  const cuts = [];
  let profile = null;
  for (let at = 8; text(bytes, at + 4, 4) !== 'IDAT'; ) {
    const end = at + 12 + data.getUint32(at);
    const kind = text(bytes, at + 4, 4);
    if (PNG_COLOURS.includes(kind)) cuts.push([at, end]);
    if (kind === 'iCCP') profile = await inflated(bytes.subarray(at + 8, end - 4));
    at = end;
  }
  return {bits: data.getUint8(24), profile, parts: without(bytes, cuts)};
}

// content: of an iCCP chunk: name, 0, method 0, compressed profile. Returns no bytes for a damaged one.
async function inflated(content) {
  const start = content.indexOf(0) + 2;
  const pieces = [];
  let size = 0;
  try {
    const stream = new Blob([content.subarray(start)]).stream().pipeThrough(new DecompressionStream('deflate'));
    for (let reader = stream.getReader(); ; ) {
      const {done, value} = await reader.read();
      if (done) return joined(pieces);
      pieces.push(value);
      size += value.length;
      if (size > MAX_PROFILE) return new Uint8Array(0);
    }
  } catch (error) {
    return new Uint8Array(0);
  }
}

function webp(bytes) {
  const data = view(bytes);
  if (text(bytes, 12, 4) !== 'VP8X' || !(data.getUint8(20) & WEBP_PROFILE)) return {};
  for (let at = 30; at < bytes.length; ) {
    const size = data.getUint32(at + 4, true);
    const end = at + 8 + size + (size & 1);
    if (text(bytes, at, 4) === 'ICCP') {
      const head = bytes.slice(0, 30);
      head[20] &= ~WEBP_PROFILE;
      view(head).setUint32(4, data.getUint32(4, true) - (end - at), true);
      return {profile: bytes.subarray(at + 8, at + 8 + size), parts: [head, bytes.subarray(30, at), bytes.subarray(end)]};
    }
    at = end;
  }
  return {};
}

function without(bytes, cuts) {
  if (!cuts.length) return null;
  const starts = [0, ...cuts.map(([, end]) => end)];
  return starts.map((start, index) => bytes.subarray(start, cuts[index]?.[0] ?? bytes.length));
}

function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
