// Shows the model, a result and a benchmark.

import {frameRing, RINGS} from './frames.js';
import {channel, overlay, scale} from './heatmap.js';

const element = (id) => document.getElementById(id);
const show = (id, shown) => (element(id).hidden = !shown);

export function showStatus(text) {
  element('status').textContent = text;
}

// problem: the error to show, null to remove the last one.
export function showProblem(problem) {
  const box = element('problem');
  box.replaceChildren();
  if (problem) box.append(paragraph(problem.message), ...(problem.todo ? [paragraph(problem.todo, 'quiet')] : []));
  show('problem', problem !== null);
}

export function showModel(model, settings) {
  const {card} = model;
  element('domain').textContent = card.synthetic
    ? 'This model was trained on synthetic drawings: what it says of a real image means nothing.'
    : card.domain === 'dermoscopic'
      ? 'For images taken through a dermatoscope (domain: dermoscopic). A bare camera is not validated: what the model says of such an image was never measured.'
      : `For ${card.domain} images: on others, the model was never measured.`;
  const {name, version} = settings.runtime;
  const facts = {
    File: `${card.file}, ${card.precision}, ${(card.size_bytes / 1e6).toFixed(1)} MB`,
    'SHA-256': card.sha256,
    Run: `${card.name}, ${card.run_id}`,
    Network: card.architecture,
    Runs: `${name} ${version}, ${model.backend}, 1 thread`,
    'Intended use': card.intended_use.replaceAll('`', ''),
    Licence: card.license || 'not stated',
    Attribution: card.attribution || 'none',
  };
  element('facts').replaceChildren(...Object.entries(facts).flatMap(([term, text]) => [node('dt', term), node('dd', text)]));
}

// Removes the last image, its scores and its map.
export function clearResult() {
  show('result', false);
  for (const id of ['source', 'verdict', 'classes', 'frame']) element(id).replaceChildren();
  for (const id of ['seen', 'evidence']) {
    element(id).width = 0; // also clears it
    element(id).removeAttribute('aria-label');
  }
}

// result: of one image, {name, remark, pixels, probabilities, heatmap}.
export function showResult(result, model, settings) {
  const {card, labels} = model;
  const size = card.resize.size;
  const order = [...labels.keys()].sort((one, other) => result.probabilities[other] - result.probabilities[one]);
  element('source').textContent = result.name;
  paint(element('seen'), rgba(result.pixels, size), `The image as the model saw it: ${result.name}`);
  element('seen-caption').textContent = `What the model saw, ${size} x ${size} pixels.${result.remark}`;
  showScore(result, model);
  const choose = (index) => showEvidence(result, size, index, labels, settings);
  const rows = order.map((index) => classRow(index, result, card, settings, choose));
  element('classes').replaceChildren(...rows);
  show('evidence-figure', result.heatmap !== null);
  show('choose', result.heatmap !== null);
  if (result.heatmap) choose(order[0]);
  show('result', true); // last, so that no part belongs to another image
}

export function showSpeed(report) {
  const [row] = report.rows;
  const ms = (value) => (value === null ? '-' : `${value.toFixed(1)} ms`);
  const cells = [row.p50_ms, row.p90_ms, row.p99_ms, row.first_inference_ms, row.load_ms].map(ms);
  document.querySelector('#speed tbody tr').replaceChildren(...[...cells, row.n].map((text) => node('td', text)));
  const doubts = row.reasons.length ? `Not trustworthy: ${row.reasons.join('; ')}. ` : '';
  element('speed-note').textContent = `${doubts}${row.runtime}, ${report.device.backend}, ${row.threads} thread. ${report.device.system}`;
  const link = element('download');
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)], {type: 'application/json'}));
  show('speed', true);
}

function showScore({probabilities}, {card, malignant, threshold, labels}) {
  const score = malignant.reduce((sum, index) => sum + probabilities[index], 0);
  const flagged = threshold !== null && score >= threshold;
  const relation = flagged ? 'flagged, at or above' : 'not flagged, below';
  const verdict = element('verdict');
  verdict.replaceChildren(node('strong', score.toFixed(3)));
  if (threshold !== null) verdict.append(` ${relation} the threshold ${threshold.toFixed(3)}`);
  verdict.classList.toggle('flagged', flagged);
  element('score').querySelector('.fill').style.width = `${100 * score}%`;
  element('score').querySelector('.mark').style.left = `${100 * (threshold ?? 0)}%`;
  element('score').querySelector('.mark').hidden = threshold === null;
  const melanoma = card.melanoma === null ? '' : ` Melanoma alone: ${probabilities[labels.indexOf(card.melanoma)].toFixed(3)}.`;
  const fitted = card.malignant_score.fitted_to_this_file ? '' : ' The threshold is the merged network\'s: none was fitted to this file.';
  element('score-parts').textContent = `The sum over the malignant and premalignant classes: ${card.malignant_score.sum_of.join(', ')}.${melanoma}${fitted}`;
}

function classRow(index, {probabilities, heatmap}, card, settings, choose) {
  const {label, group} = card.classes[index];
  const value = probabilities[index];
  const row = node(heatmap ? 'button' : 'div', '', 'class');
  if (heatmap) row.type = 'button';
  const name = settings.names[label] ?? label;
  const bar = node('span', '', `track ${group === 'benign' ? '' : 'malignant'}`);
  bar.append(node('span', '', 'fill'));
  bar.firstChild.style.width = `${100 * value}%`;
  const title = node('span', name, 'name');
  title.append(' ', node('span', name === label ? group : `${label}, ${group}`, 'quiet'));
  row.append(title, node('span', value.toFixed(3), 'value'), bar);
  row.dataset.label = label;
  row.dataset.probability = value;
  if (heatmap) row.addEventListener('click', () => choose(index));
  const item = node('li');
  item.append(row);
  return item;
}

function showEvidence({pixels, heatmap}, size, index, labels, {overlay: look}) {
  const {image, low, high} = overlay(pixels, size, heatmap, index, look);
  const label = labels[index];
  const none = high > 0 ? '' : ` There is none for ${label}.`;
  paint(element('evidence'), image, `Where in the image the evidence for ${label} is`);
  element('colours').getContext('2d').putImageData(scale(256, look), 0, 0);
  element('evidence-caption').textContent =
    `Where the evidence for ${label} is, ${low.toFixed(2)} to ${high.toFixed(2)} logits.${none} ` +
    'Not whether the model is right.';
  showFrame(frameRing(channel(heatmap, index), heatmap.height, heatmap.width));
  for (const row of document.querySelectorAll('#classes button')) {
    row.setAttribute('aria-pressed', String(row.dataset.label === label));
  }
}

// ring: index in RINGS, null where the map shows no frame.
function showFrame(ring) {
  element('frame').textContent =
    ring === null
      ? ''
      : `Frame: most of the evidence lies in the ${RINGS[ring]}, all along the border. It comes from the zero padding ` +
        'of the network\'s convolutions, not from the skin.';
  show('frame', ring !== null);
}

function rgba(pixels, size) {
  const image = new ImageData(size, size);
  for (let at = 0; at < size * size; at++) image.data.set([...pixels.subarray(at * 3, at * 3 + 3), 255], at * 4);
  return image;
}

function paint(canvas, image, description) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext('2d').putImageData(image, 0, 0);
  canvas.setAttribute('aria-label', description);
}

function paragraph(text, style) {
  return node('p', text, style);
}

function node(tag, text = '', style = '') {
  const created = document.createElement(tag);
  created.textContent = text;
  if (style) created.className = style;
  return created;
}
