// One study as a reader works on it: what is on the screen, what was asked of the server, what it said. The
// panel shows this and calls it; nothing here knows the panel.
//
// What is saved is read from the screen at that moment. A click goes with what is on the screen, whether that
// came from the server, from a brush or from an undo.

import { Labelmap, SEGMENTATION, otherHand, volumeOf } from './labelmap.js';
import { readLabel } from './nifti.js';
import { listen } from './pointer.js';
import * as server from './server.js';
import { Steps, equal, unpack } from './steps.js';
import { CORRECT, chooseTool } from './tools.js';
import { Views } from './views.js';

const BACKGROUND = 'background';
const AUTOMATIC = 'automatic segmentation';
const POLL = 100; // ms between looks whether the images are there
const SETTLED = 250; // ms after the last change by a brush until it counts as a step

let current = null;

/** The session that is open; null: none. */
export const session = () => current;

/** Begin with a study; its `info` is missing, and `problem` says why, where the server cannot use it. */
export async function openSession(study, services) {
  closeSession();
  current = new Session(services);
  window.slem = current; // for tests, and for whoever looks into a console
  try {
    current.info = await server.fetchCase(study);
    current.begin();
  } catch (error) {
    current.problem = error.message;
  }
  document.dispatchEvent(new Event('slem-session'));
  return current;
}

export function closeSession() {
  current?.close();
  current = null;
}

export class Session extends EventTarget {
  constructor(services) {
    super();
    this.services = services;
    this.steps = new Steps();
    this.label = 1; // value of the one that clicks and brushes paint
    this.tool = CORRECT;
    this.busy = 'Loading the images';
    this.problem = ''; // the sentence of the last refusal
    this.said = ''; // what was done last
    this.starts = 0;
    this.sentStart = null; // number of the start that the server goes on from; null: not known
    this.saved = null; // the step that was saved last
    this.times = []; // ms from each click to changed pixels
  }

  get model() {
    return this.info?.models[0];
  }

  get image() {
    return `${this.info.case}/${this.info.reference}`;
  }

  get facts() {
    return this.steps.now?.facts ?? null;
  }

  begin() {
    this.views = new Views(this.services, this.info);
    this.timer = setInterval(() => this.views.ready() && this.whenReady(), POLL);
  }

  close() {
    clearInterval(this.timer);
    this.stopListening?.();
    this.closed = true;
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** Do something that takes a while; one thing at a time, and a refusal becomes a sentence. */
  async work(busy, act) {
    if (this.busy) return;
    Object.assign(this, { busy, problem: '', said: '' });
    this.changed();
    try {
      await act();
    } catch (error) {
      this.problem = error.message;
    }
    this.busy = '';
    this.changed();
  }

  async whenReady() {
    const reference = this.info.sequences.find(({ name }) => name === this.info.reference);
    const volume = reference && volumeOf(reference.series);
    if (reference && !volume) return;
    clearInterval(this.timer);
    this.busy = '';
    if (!this.model || !reference) {
      this.problem = this.model
        ? `The viewer cannot show ${this.info.reference}, on which labels of this case lie.`
        : 'No model of this server is for these sequences.';
      return this.changed();
    }
    await this.work('Preparing the segmentation', async () => {
      this.map = new Labelmap(this.info.grid, volume, this.model.labels);
      for (const { id } of this.views.all()) await this.map.showIn(id);
      this.views.begin();
      this.choose(CORRECT);
      this.stopListening = this.hear();
      if (this.info.label) await this.loadLabel(this.info.label);
    });
  }

  /** Listen to mouse, camera and brush; what stops it. */
  hear() {
    const { Events } = window.cornerstone.Enums, { Events: Tools } = window.cornerstoneTools.Enums;
    const { eventTarget } = window.cornerstone, draw = () => this.views.draw(), edited = event => this.heardEdit(event);
    const stopMouse = listen(this.views, {
      point: (view, world) => {
        this.views.pointer = { view, world };
        draw();
      },
      press: pressed => (this.pressed = pressed), // a stroke of the brush is one step, however long it takes
      click: (world, erase) => this.tool === CORRECT && this.click(world, erase),
    });
    const elements = this.views.all().map(({ element }) => element);
    for (const element of elements) element.addEventListener(Events.CAMERA_MODIFIED, draw);
    eventTarget.addEventListener(Tools.SEGMENTATION_DATA_MODIFIED, edited);
    return () => {
      stopMouse();
      for (const element of elements) element.removeEventListener(Events.CAMERA_MODIFIED, draw);
      eventTarget.removeEventListener(Tools.SEGMENTATION_DATA_MODIFIED, edited);
    };
  }

  async loadLabel(version) {
    const names = this.model.labels.map(({ name }) => name);
    if (version.names.join() !== names.join() || version.sequence !== this.info.reference) {
      this.said = `There is a label of this case (${version.tag} ${version.version}), of other labels or on ` +
        'another sequence: it is not shown here.';
      return;
    }
    const data = this.map.accept(await readLabel(await server.fetchLabel(this.info.case, version)));
    const facts = { warnings: version.warnings.map(text => ({ text })), trust: version.trust, notes: [] };
    this.show(data, null, `${version.tag} ${version.version}`);
    this.steps.now.facts = facts;
    this.saved = this.steps.now;
    this.said = `${version.state === 'draft' ? 'Draft' : 'Label'} ${version.version}` +
      `${version.who ? `, saved by ${version.who}` : ''}.`;
    this.lookAtLargest(0);
  }

  /** Put voxels on the screen, as a step. */
  show(data, known, what) {
    this.steps.add(data, known, what);
    this.put(data);
  }

  put(data) {
    this.shown = data;
    this.map.write(data);
    this.markPlaces();
  }

  /** Voxels on the screen, read from there. */
  onScreen() {
    return this.map.read();
  }

  /** The automatic segmentation; asked of the tool for clicks, where there is one, which is then ready for them. */
  segment() {
    return this.work('Segmenting', async () => {
      this.settleEdit();
      const { clicks, name } = this.model, begin = { ...this.fields([]), start_over: true };
      const { facts, file } = await server.infer(clicks || name, this.image, clicks ? begin : {});
      const data = this.map.accept(await readLabel(file));
      this.show(data, { start: clicks ? this.begun() : null, clicks: [], facts }, AUTOMATIC);
      this.said = facts.missing.length ? `Segmented without ${facts.missing.join(', ')}.` : 'Segmented.';
      this.lookAtLargest(0);
    });
  }

  /** The server goes on from another segmentation from now on: the number of that start. */
  begun() {
    this.sentStart = this.starts++;
    return this.sentStart;
  }

  /** Clicks by label name, as the server wants them. */
  fields(clicks) {
    const fields = { [BACKGROUND]: [] };
    for (const { name } of this.model.labels) fields[name] = [];
    for (const { name, voxel } of clicks) fields[name].push(voxel);
    return fields;
  }

  /** Correct at a point, LPS mm: it is the chosen label, or none where `erase`. */
  click(world, erase = false) {
    if (!this.model.clicks || this.busy) return null;
    const voxel = this.map.voxelAt(world), begin = performance.now();
    if (!voxel) return null;
    const name = erase ? BACKGROUND : this.model.labels.find(({ value }) => value === this.label).name;
    this.views.mark([...this.places(), { world, kind: 'working' }]);
    return this.work('Correcting', async () => {
      try {
        await this.correct({ name, voxel }, erase ? 'erased by a click' : `${name} by a click`);
        this.times.push(performance.now() - begin);
      } finally {
        this.markPlaces();
      }
    });
  }

  async correct(click, what) {
    this.settleEdit();
    const data = this.onScreen(), before = this.steps.now?.known;
    const follows = before && before.start === this.sentStart;
    const clicks = [...(follows ? before.clicks : []), click], fields = this.fields(clicks);
    const label = { ...this.map.label(), data };
    const names = this.model.labels.map(({ name, value }) => ({ name, idx: value }));
    const sent = follows ? [fields] : [{ ...fields, start_over: true, label_info: names }, label];
    const { facts, file } = await server.infer(this.model.clicks, this.image, ...sent);
    const now = this.map.accept(await readLabel(file));
    const start = follows ? before.start : this.begun();
    this.show(now, { start, clicks, facts }, what);
    this.said = equal(now, data) ? 'This click changed nothing.' : '';
  }

  undo() {
    this.goTo(() => this.steps.back(), 'There is nothing to undo.');
  }

  redo() {
    this.goTo(() => this.steps.again(), 'There is nothing to do again.');
  }

  goTo(step, nothing) {
    if (this.busy || !this.map) return;
    this.settleEdit();
    const left = this.steps.now, now = step();
    this.problem = '';
    this.said = now ? `Now: ${now.what}.` : nothing;
    if (now && now !== left) this.put(unpack(now.packed));
    this.changed();
  }

  /** Back to the automatic segmentation or the label that was opened; a step that can be undone. */
  startOver() {
    if (this.busy || !this.steps.now) return;
    this.settleEdit();
    const from = this.steps.done.findLast(({ what }) => what === AUTOMATIC) ?? this.steps.done[0];
    this.steps.add(unpack(from.packed), from.known, `${from.what}, started over`);
    this.put(unpack(from.packed));
    this.said = 'Started over.';
    this.changed();
  }

  heardEdit({ detail }) {
    if (detail.segmentationId !== SEGMENTATION) return;
    clearTimeout(this.edit);
    this.edit = setTimeout(() => (this.pressed ? this.heardEdit({ detail }) : this.settleEdit()), SETTLED);
  }

  /** What a brush has changed since the last step becomes one. */
  settleEdit() {
    clearTimeout(this.edit);
    if (this.closed || !this.map) return;
    const data = this.onScreen();
    if (this.shown ? equal(data, this.shown) : !data.some(Boolean)) return;
    if (!this.steps.now) this.steps.add(new Uint8Array(data.length), null, 'nothing drawn');
    this.steps.add(data, null, 'drawn by hand');
    this.shown = data;
    this.changed();
  }

  /** Keep what is on the screen: 'final' submits it, 'draft' keeps it for later. */
  save(tag) {
    return this.work('Saving', async () => {
      this.settleEdit();
      const label = this.map.label(), step = this.steps.now;
      const { dicom } = await server.saveLabel(this.image, tag, label, this.model.labels, this.model.name);
      this.info = { ...this.info, ...(await server.fetchCase(this.info.case)) };
      this.saved = step;
      const number = this.info.label?.version, kept = tag === 'final' ? 'Submitted' : 'Draft saved';
      this.said = number ? `${kept} as version ${number}.` : `${kept}.`;
      if (dicom && !dicom.stored) this.said += ` Not as DICOM yet: ${dicom.reason}`;
    });
  }

  get unsaved() {
    return Boolean(this.steps.now) && this.steps.now !== this.saved;
  }

  next() {
    return this.work('Asking for the next case', async () => {
      const chosen = await server.nextCase(this.info.strategy);
      if (!chosen) {
        this.said = 'There is no further case: all are done, or in hand.';
        return;
      }
      const { study } = await server.fetchCase(chosen.id);
      if (!study) throw new Error(`Case ${chosen.id} is not in DICOM: this viewer cannot open it.`);
      this.saved = this.steps.now; // the reader has said so
      location.search = `?StudyInstanceUIDs=${study}`;
    });
  }

  choose(tool) {
    this.tool = tool;
    chooseTool(tool);
    this.changed();
  }

  chooseLabel(value) {
    this.label = value;
    window.cornerstoneTools.segmentation.segmentIndex.setActiveSegmentIndex(SEGMENTATION, value);
    this.changed();
  }

  /** Look at the slice with most of a label; 0: of all. */
  lookAtLargest(value) {
    const world = this.shown && this.map.largestSlice(this.shown, value);
    if (world) this.views.lookAt(world);
  }

  places() {
    return (this.facts?.trust?.places ?? []).map(({ centre }) => ({ world: otherHand(centre), kind: 'place' }));
  }

  markPlaces() {
    this.views.mark(this.places());
  }

  /** Millilitres by label value, of what is on the screen. */
  volumes() {
    return this.shown ? this.map.volumes(this.shown) : [];
  }
}
