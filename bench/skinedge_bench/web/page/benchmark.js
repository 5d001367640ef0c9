// The benchmark of `skinedge bench` for the page's model file: warm-up, then blocks of single inferences.

// images: prepared pixels, used in rotation; bench: from site.json; advance(share): called after each block.
// Returns the document of `skinedge bench --json` for this file in this browser, with the raw samples.
export async function benchmark(model, images, protocol, bench, advance) {
  let hidden = document.hidden;
  const watch = () => (hidden ||= document.hidden);
  document.addEventListener('visibilitychange', watch);
  await timed(model, images, protocol.warmup);
  const blocks = [];
  while (blocks.length < protocol.blocks || total(blocks) < protocol.min_seconds * 1000) {
    blocks.push(await timed(model, images, protocol.block));
    advance(Math.min(blocks.length / protocol.blocks, 1));
    await new Promise((resume) => setTimeout(resume)); // let the page redraw
  }
  document.removeEventListener('visibilitychange', watch);
  const reasons = [...noise(blocks, bench.limits), ...clockReasons(blocks), ...(hidden ? ['the page was in the background'] : [])];
  return report(model, protocol, bench, blocks, reasons);
}

// Returns the statistics of a row; quantiles are linear, like NumPy's. limits: from site.json (skinedge_bench.latency.block_stats).
export function summary(blocks, limits) {
  const samples = blocks.flat();
  return {
    p50_ms: quantile(samples, 0.5),
    p50_interval_ms: blocks.length >= limits.least_blocks ? interval(medians(blocks), limits.resamples) : null,
    p90_ms: quantile(samples, 0.9),
    p99_ms: samples.length >= limits.p99_samples ? quantile(samples, 0.99) : null,
    n: samples.length,
  };
}

// Returns warnings about the samples: noise between blocks, or a slow-down during the run.
export function noise(blocks, limits) {
  const middles = medians(blocks);
  const percent = (share) => `${Math.round(share * 100)}%`;
  const spread = (quantile(middles, 0.75) - quantile(middles, 0.25)) / quantile(middles, 0.5);
  const third = Math.floor(middles.length / 3);
  const drift = third ? quantile(middles.slice(-third), 0.5) / quantile(middles.slice(0, third), 0.5) - 1 : 0;
  return [
    ...(spread > limits.noise ? [`noisy: half of the blocks' medians spread over ${percent(spread)} of the median`] : []),
    ...(drift > limits.drift ? [`slowed down by ${percent(drift)} during the benchmark`] : []),
  ];
}

// Returns the 95 % percentile bootstrap interval of the median.
function interval(middles, resamples) {
  const draw = () => middles.map(() => middles[Math.floor(Math.random() * middles.length)]);
  const resampled = Array.from({length: resamples}, () => quantile(draw(), 0.5));
  return [quantile(resampled, 0.025), quantile(resampled, 0.975)];
}

function medians(blocks) {
  return blocks.map((block) => quantile(block, 0.5));
}

async function timed(model, images, count) {
  const times = [];
  for (let index = 0; index < count; index++) {
    const started = performance.now();
    await model.run(images[index % images.length]);
    times.push(performance.now() - started);
  }
  return times;
}

function report(model, protocol, bench, blocks, reasons) {
  const empty = bench.document;
  const row = {
    ...empty.rows[0],
    ...summary(blocks, bench.limits),
    load_ms: model.loadMs,
    first_inference_ms: model.firstMs,
    trustworthy: reasons.length === 0,
    reasons,
  };
  const device = {
    ...empty.device,
    machine: navigator.userAgentData?.platform || navigator.platform || empty.device.machine,
    system: navigator.userAgent,
    cores: navigator.hardwareConcurrency ?? empty.device.cores,
    backend: model.backend,
    clock_step_ms: clockStep(),
  };
  return {...empty, measured_at: new Date().toISOString(), device, protocol, rows: [row], samples_ms: {[bench.key]: blocks}};
}

// Browsers round their clock, some to a millisecond, which is too coarse for short inferences.
function clockReasons(blocks) {
  const step = clockStep();
  const share = step / quantile(blocks.flat(), 0.5);
  return share > 0.05 ? [`this browser's clock advances in steps of ${step.toFixed(2)} ms, too coarse for this`] : [];
}

function clockStep() {
  const steps = Array.from({length: 5}, () => {
    const started = performance.now();
    let now = started;
    while (now === started) now = performance.now();
    return now - started;
  });
  return Math.min(...steps);
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function total(blocks) {
  return blocks.flat().reduce((sum, time) => sum + time, 0);
}
