// Runs a .tflite file in LiteRT.js on one CPU thread. Interface of the runtimes: open(bytes) returns
// {backend, inputs: [{name, dtype, shape}], outputs: like inputs, run(numbers) -> {output name: Float32Array}}.

import {loadAndCompile, loadLiteRt, supportsFeature, Tensor} from '@litertjs/core';

let library; // loaded once

export async function open(bytes) {
  library ??= loaded();
  await library;
  const model = await loadAndCompile(bytes, {accelerator: 'wasm'});
  const [input] = model.getInputDetails();
  const relaxed = await supportsFeature('relaxedSimd');

  async function run(numbers) {
    const tensor = new Tensor(numbers, [...input.shape]);
    const results = await model.run({[input.name]: tensor});
    const outputs = Object.entries(results).map(([name, result]) => [name, Float32Array.from(result.toTypedArray())]);
    [tensor, ...Object.values(results)].forEach((used) => used.delete()); // free WebAssembly memory
    return Object.fromEntries(outputs);
  }

  return {
    backend: `WebAssembly, ${relaxed ? 'relaxed SIMD' : 'SIMD'}`,
    inputs: model.getInputDetails().map(described),
    outputs: model.getOutputDetails().map(described),
    run,
  };
}

function loaded() {
  // Logs would appear as errors otherwise; failures are also thrown. The library removes this global.
  globalThis.Module = {printErr: (text) => console.debug(text)};
  return loadLiteRt('vendor/litert/wasm/');
}

function described({name, dtype, shape}) {
  return {name, dtype, shape: [...shape]};
}
