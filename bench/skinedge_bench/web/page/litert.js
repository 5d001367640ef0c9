// A .tflite file in LiteRT.js, on one thread of the CPU. What runtimes share: open(bytes, card) gives
// {backend, inputs: [{name, dtype, shape}], outputs: likewise, run(numbers) -> {output name: Float32Array}}.

import {loadAndCompile, loadLiteRt, supportsFeature, Tensor} from '@litertjs/core';

let library; // loaded once, whatever is opened

export async function open(bytes) {
  library ??= loaded();
  await library;
  const model = await loadAndCompile(bytes, {accelerator: 'wasm'});
  const [input] = model.getInputDetails();
  const relaxed = await supportsFeature('relaxedSimd');

  async function run(numbers) {
    const tensor = new Tensor(numbers, [...input.shape]);
    const results = await model.run({[input.name]: tensor});
    const found = Object.entries(results).map(([name, result]) => [name, Float32Array.from(result.toTypedArray())]);
    [tensor, ...Object.values(results)].forEach((used) => used.delete()); // they lie in WebAssembly's own memory
    return Object.fromEntries(found);
  }

  return {
    backend: `WebAssembly, ${relaxed ? 'relaxed SIMD' : 'SIMD'}`,
    inputs: model.getInputDetails().map(described),
    outputs: model.getOutputDetails().map(described),
    run,
  };
}

function loaded() {
  // Its notes to itself come as errors otherwise; what fails is thrown as well. The library takes this global away.
  globalThis.Module = {printErr: (text) => console.debug(text)};
  return loadLiteRt('vendor/litert/wasm/');
}

function described({name, dtype, shape}) {
  return {name, dtype, shape: [...shape]};
}
