// What this mode asks of the server. Every refusal is an Error with the server's own sentence.

import { writeLabel } from './nifti.js';

async function answered(promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    throw new Error(`The server does not answer (${error.message}).`);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.detail ? String(said.detail) : `The server answers ${answer.status}.`);
}

const address = (path, query) => `${path}?${new URLSearchParams(query)}`;

/** What the server knows of a study (`viewer_case.py`). */
export async function fetchCase(study) {
  return (await answered(fetch(address('/slem/viewer/case', { study })))).json();
}

/** How learning stands (`learning_status_routes.py`). */
export async function fetchLearning() {
  return (await answered(fetch('/slem/learning'))).json();
}

/** Which series is which sequence, and what there is to choose from (`series_routes.py`). */
export async function fetchSeries(image) {
  return (await answered(fetch(address('/slem/series', { image })))).json();
}

/** Choose series by hand: sequence -> series id, empty: none; what is not named is left to the rules. */
export async function chooseSeries(image, chosen) {
  const body = { method: 'POST', body: JSON.stringify({ chosen }), headers: { 'Content-Type': 'application/json' } };
  await answered(fetch(address('/slem/series', { image }), body));
}

/** The label map of a version, as the bytes of a file. */
export async function fetchLabel(image, { tag, version }) {
  return (await answered(fetch(address('/slem/labels/file', { image, tag, version })))).arrayBuffer();
}

/**
 * Ask a model.
 * @param {string} model name of a model, or of its tool for clicks
 * @param {string} image CASE/SEQUENCE, on whose grid the answer lies
 * @param {object} fields further fields of the request
 * @param {object} [label] a label map to go on from
 * @returns {Promise<{facts: object, file: ArrayBuffer}>}
 */
export async function infer(model, image, fields, label) {
  const form = new FormData();
  form.append('params', JSON.stringify({ result_extension: '.nii', result_crop: true, ...fields }));
  if (label) form.append('label', await writeLabel(label), 'label.nii.gz');
  const answer = await answered(fetch(address(`/infer/${model}`, { image, output: 'all' }),
    { method: 'POST', body: form }));
  const parts = await answer.formData(), said = parts.get('params');
  const facts = JSON.parse(typeof said === 'string' ? said : await said.text());
  return { facts, file: await parts.get('image').arrayBuffer() };
}

/** Keep a label map under a tag; what became of its DICOM segmentation, if there is one. */
export async function saveLabel(image, tag, label, labels, model) {
  const form = new FormData();
  const params = { label_info: labels.map(({ name, value }) => ({ name, idx: value })), model };
  form.append('params', JSON.stringify({ ...params, client: 'OHIF' }));
  form.append('label', await writeLabel(label), 'label.nii.gz');
  const path = address('/datastore/label', { image, tag });
  return (await answered(fetch(path, { method: 'PUT', body: form }))).json();
}

/** The case that a strategy gives next; null where all are done. */
export async function nextCase(strategy) {
  const body = { method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' } };
  const chosen = await (await answered(fetch(`/activelearning/${strategy}`, body))).json();
  return chosen.id ? chosen : null;
}
