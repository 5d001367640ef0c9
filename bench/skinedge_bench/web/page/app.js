// The page: loads and checks the model, then predicts the images that the user chooses. Nothing leaves the device.

import {benchmark} from './benchmark.js';
import * as camera from './camera.js';
import {decode, frame} from './decode.js';
import {json, load} from './model.js';
import {Problem} from './problem.js';
import {prepare} from './resize.js';
import {selfCheck} from './selfcheck.js';
import {clearResult, showModel, showProblem, showResult, showSpeed, showStatus} from './view.js';

const element = (id) => document.getElementById(id);
const video = element('video');

async function begin() {
  const settings = await json('site.json');
  const model = await load(settings);
  const checked = await selfCheck(model, settings.check);
  showModel(model, settings);
  connect({...model, firstMs: checked.firstMs}, settings, checked.images);
  showStatus(
    `Ready. Self-check passed: ${checked.images.length} drawn images were prepared exactly and judged as in Python ` +
      `(largest difference of a probability ${checked.largest.toExponential(0)}).`,
  );
}

let latest = 0; // number of the latest task: only its result is shown

// Runs a task with the controls disabled, and shows its error. work(current): current() returns false once a later task
// has started, e.g. for an image dropped during a slower one.
async function attempt(work) {
  const number = ++latest;
  const current = () => number === latest;
  showProblem(null);
  enable(false);
  try {
    await work(current);
  } catch (error) {
    if (current()) showProblem(asProblem(error));
  } finally {
    if (current()) enable(true);
  }
}

// Like `attempt`, for a task with a new image: clears the previous result first, so that it never appears below an error
// or beside another image.
function attemptImage(work) {
  clearResult();
  return attempt(work);
}

function asProblem(error) {
  return error instanceof Problem ? error : new Problem(`Something unforeseen went wrong: ${error?.message ?? error}`);
}

function enable(on) {
  for (const id of ['file', 'camera', 'shoot', 'time']) element(id).disabled = !on;
}

function connect(model, settings, images) {
  // read(): returns the pixel source; name(): its name, after reading.
  const judge = (read, name) =>
    attemptImage(async (current) => {
      const source = await read();
      const pixels = current() ? prepare(source, model.card.resize.size) : null;
      source.close();
      if (!current()) return;
      const result = {name: name(), remark: source.remark, pixels, ...(await model.run(pixels))};
      if (!current()) return;
      showResult(result, model, settings);
      element('result').scrollIntoView({block: 'start'});
    });

  const judgeFile = (file) => {
    const timing = !element('progress').hidden; // an image would disturb the measurement
    if (!timing) judge(() => decode(file, model.colour), () => file.name);
  };
  element('file').addEventListener('change', ({target}) => {
    if (target.files.length) judgeFile(target.files[0]);
    target.value = ''; // so that the same file can be chosen again
  });
  connectDrop(judgeFile);
  element('camera').addEventListener('click', () => attemptImage(openFinder));
  element('stop').addEventListener('click', closeFinder);
  element('shoot').addEventListener('click', () =>
    judge(() => frame(video), () => `Camera frame, ${video.videoWidth} x ${video.videoHeight}`),
  );
  connectSpeed(model, settings, images);
  enable(true);
}

function connectDrop(judgeFile) {
  const over = (on) => element('drop').classList.toggle('over', on);
  document.addEventListener('dragover', (event) => {
    event.preventDefault(); // otherwise the browser opens a file dropped outside the target
    over(true);
  });
  document.addEventListener('dragleave', () => over(false));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    over(false);
    const [file] = event.dataTransfer.files;
    if (file) judgeFile(file);
  });
}

async function openFinder(current) {
  await camera.start(video);
  if (current()) element('finder').hidden = false;
  else camera.stop(video);
}

function closeFinder() {
  camera.stop(video);
  element('finder').hidden = true;
}

function connectSpeed(model, {bench}, images) {
  const choices = bench.protocols.map(({name, warmup, block, blocks}) => new Option(`${name}: ${warmup} + ${blocks} x ${block}`, name));
  element('protocol').replaceChildren(...choices);
  element('time').addEventListener('click', () =>
    attempt(async () => {
      const progress = element('progress');
      progress.hidden = false;
      const protocol = bench.protocols.find(({name}) => name === element('protocol').value);
      try {
        showSpeed(await benchmark(model, images, protocol, bench, (share) => (progress.value = share)));
      } finally {
        progress.hidden = true;
      }
    }),
  );
}

begin().catch((error) => {
  showStatus('The model is not ready.');
  showProblem(asProblem(error));
});
