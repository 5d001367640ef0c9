// Runs an .onnx file in ONNX Runtime Web on one CPU thread; same interface as litert.js.

import * as ort from 'onnxruntime-web';

export async function open(bytes) {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {wasm: new URL('vendor/ort/ort-wasm-simd-threaded.wasm', document.baseURI).href};
  const session = await ort.InferenceSession.create(bytes, {executionProviders: ['wasm']});
  const [input] = session.inputMetadata;
  const shape = input.shape.map((side) => (typeof side === 'number' && side > 0 ? side : 1)); // a free batch dimension: one image

  async function run(numbers) {
    const results = await session.run({[input.name]: new ort.Tensor(input.type, numbers, shape)});
    return Object.fromEntries(Object.entries(results).map(([name, result]) => [name, result.data]));
  }

  return {
    backend: 'WebAssembly, SIMD',
    inputs: session.inputMetadata.map(described),
    outputs: session.outputMetadata.map(described),
    run,
  };
}

function described({name, type, shape}) {
  return {name, dtype: type, shape: shape.map((side) => (typeof side === 'number' && side > 0 ? side : -1))};
}
