// One study as a reader works on it: what is on the screen, what was asked of the server, what it said. The
// panel shows this and calls it; nothing here knows the panel.
//
// What is saved is read from the screen at that moment. A click goes with what is on the screen, whether that
// came from the server, from a brush or from an undo.

import { EMPTY, equal } from './crop.js';
import { hear } from './hearing.js';
import { Labelmap, SEGMENTATION, otherHand, volumeOf } from './labelmap.js';
import { readLabel } from './nifti.js';
import { BACKGROUND, NOTHING_SAID, boxOver, cornersOf, fieldsOf, runsAlong, runsInside } from './prompts.js';
import { onlyLast, reachOf, withReach } from './prompts.js';
import * as server from './server.js';
import { Steps, unpack } from './steps.js';
import { notePainted } from './timing.js';
import { BOX, CLICK, LASSO, SCRIBBLE, chooseTool } from './tools.js';
import { Views } from './views.js';

const AUTOMATIC = 'automatic segmentation';
const CORRECTING = 'Correcting';
const POLL = 100; // ms between looks whether the images are there
const SETTLED = 250; // ms after the last change by a brush until it counts as a step

export class Session extends EventTarget {
  constructor(services) {
    super();
    this.services = services;
    this.steps = new Steps();
    this.label = 1; // value of the one that clicks and brushes paint
    this.tool = CLICK;
    this.busy = 'Loading the images';
    this.problem = ''; // the sentence of the last refusal
    this.said = ''; // what was done last
    this.starts = 0;
    this.sentStart = null; // number of the start that the server goes on from; null: not known
    this.saved = null; // the step that was saved last
    this.shown = EMPTY; // the label map of the step that is on the screen
    this.brushed = false; // a brush has changed it since
    this.waiting = []; // corrections that were made while another one was on its way
    this.times = []; // of each correction, ms by step (`timing.js`)
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
      this.choose(CLICK);
      this.stopListening = hear(this);
      if (this.info.label) await this.loadLabel(this.info.label);
    });
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
  show(data, known, what, view) {
    this.steps.add(data, known, what);
    this.put(data, view);
  }

  /** Put voxels on the screen, `view` first. */
  put(data, view) {
    this.shown = data;
    this.map.write(data);
    this.views.paint(view);
    this.markPlaces();
  }

  /** The label map on the screen, read from there. */
  onScreen() {
    return this.map.read();
  }

  /** The automatic segmentation; asked of the tool for clicks, where there is one, which is then ready for them. */
  segment() {
    return this.work('Segmenting', async () => {
      this.settleEdit();
      const { clicks, name } = this.model;
      const begin = { ...fieldsOf(NOTHING_SAID, this.model.labels), start_over: true };
      const { facts, file } = await server.infer(clicks || name, this.image, clicks ? begin : {});
      const data = this.map.accept(await readLabel(file));
      const start = clicks ? this.begun() : null;
      this.show(data, { start, prompts: NOTHING_SAID, facts }, AUTOMATIC);
      this.said = facts.missing.length ? `Segmented without ${facts.missing.join(', ')}.` : 'Segmented.';
      this.lookAtLargest(0);
    });
  }

  /** The server goes on from another segmentation from now on: the number of that start. */
  begun() {
    this.sentStart = this.starts++;
    return this.sentStart;
  }

  /** Correct at a point, LPS mm: it is the chosen label, or none where `erase`. */
  heardClick(world, erase, view) {
    if (this.tool === SCRIBBLE) return this.heardLine(view, [world], erase);
    const voxel = this.tool === CLICK && this.map.voxelAt(world);
    if (!voxel) return null;
    const name = this.painting(erase), click = { name, voxel };
    const what = erase ? 'erased by a click' : `${name} by a click`;
    const more = said => ({ ...said, clicks: [...said.clicks, click], last: 'clicks' });
    return this.correct(more, what, { kind: 'working', world }, view);
  }

  /** Correct by a line that was drawn over a viewport: a scribble, a lasso, or the corners of a box. */
  heardLine(view, path, erase) {
    this.views.drawing(null);
    const { grid } = this.info, normal = view.getCamera().viewPlaneNormal;
    if (this.tool === SCRIBBLE) return this.drawn('scribble', { runs: runsAlong(grid, path) }, path, erase, view);
    if (this.tool === LASSO) {
      const inside = { runs: runsInside(grid, path, normal), outline: true };
      return this.drawn('lasso', inside, [...path, path[0]], erase, view);
    }
    if (this.tool !== BOX) return null;
    const box = boxOver(grid, [path[0], path.at(-1)], normal);
    return box && this.correct(said => ({ ...said, box, last: null }), 'kept inside a box', null, view);
  }

  /** Correct by painted voxels: a scribble, or what a lasso encloses. */
  drawn(kind, painted, path, erase, view) {
    if (!painted.runs.length) {
      if (kind === 'lasso') this.said = 'The lasso encloses no voxel: draw a larger one, on the image.';
      return this.changed();
    }
    const label = this.painting(erase), mark = { kind: 'scribble', path };
    const more = said => ({ ...said, strokes: [...said.strokes, { label, ...painted }], last: 'strokes' });
    return this.correct(more, erase ? `erased by a ${kind}` : `${label} by a ${kind}`, mark, view);
  }

  /** Take the box away. */
  clearBox() {
    return this.correct(said => ({ ...said, box: null, last: null }), 'no box', null, this.views.all()[0]);
  }

  /** How far the answer to the prompt behind what is on the screen goes; null where that cannot be changed. */
  get reach() {
    const known = this.steps.now?.known;
    if (!this.model?.reaches || this.brushed || !known) return null;
    return known.start === this.sentStart || this.steps.before ? reachOf(known.prompts) : null;
  }

  /** Let that answer go less far or farther: another outcome of the same step. */
  changeReach(by) {
    if (this.reach === null && this.busy !== CORRECTING) return null;
    return this.correct(said => withReach(said, by), '', null, this.views.all()[0], true);
  }

  /** The box that holds now; null: none. */
  get box() {
    return this.steps.now?.known?.prompts.box ?? null;
  }

  /** Name of what a click or scribble makes its place. */
  painting(erase) {
    return erase ? BACKGROUND : this.model.labels.find(({ value }) => value === this.label).name;
  }

  /**
   * Ask for a correction; one that is made while another is on its way is asked for after it.
   * @param {(said: object) => object} more what is said in all, after what was said before
   * @param {string} what in words
   * @param {object|null} mark drawn meanwhile
   * @param {object} view on which the reader looks
   * @param {boolean} [again] of the last prompt, whose answer it takes the place of
   */
  async correct(more, what, mark, view, again) {
    if (!this.model.clicks) return;
    if (this.busy === CORRECTING) {
      this.waiting.push([more, what, mark, view, again]);
      return;
    }
    const begin = performance.now(), spent = {};
    this.views.mark([...this.places(), ...(mark ? [mark] : [])]);
    await this.work(CORRECTING, async () => {
      try {
        await this.corrected(more, what, view, spent, begin, again);
      } finally {
        this.markPlaces();
      }
    });
    if (this.problem) this.waiting = [];
    const next = this.waiting.shift();
    if (next) await this.correct(...next);
  }

  async corrected(more, what, view, spent, begin, again) {
    this.settleEdit();
    if (again && this.reach === null) return;
    const { labels, clicks } = this.model, screen = this.shown, step = this.steps.now, before = step?.known;
    const follows = before && before.start === this.sentStart;
    const unknown = again ? onlyLast(before.prompts) : NOTHING_SAID; // to a server that goes on from the screen
    const prompts = more(follows ? before.prompts : unknown), fields = fieldsOf(prompts, labels);
    const names = labels.map(({ name, value }) => ({ name, idx: value }));
    const from = again && !follows ? unpack(this.steps.before.packed) : screen;
    const sent = follows ? [fields] : [{ ...fields, start_over: true, label_info: names }, this.map.label(from)];
    spent.sent = performance.now() - begin;
    const { facts, file } = await server.infer(clicks, this.image, ...sent);
    spent.answered = performance.now() - begin;
    spent.server = 1000 * facts.latencies.total;
    const now = this.map.accept(await readLabel(file));
    spent.unpacked = performance.now() - begin;
    const start = follows ? before.start : this.begun(), changed = !equal(now, screen);
    const done = () => this.times.push(spent);
    if (changed) notePainted(this.views.from(view), spent, begin, done);
    if (again) this.steps.replace(now, { start, prompts, facts }, step.what);
    else this.steps.add(now, { start, prompts, facts }, what);
    this.put(now, view);
    spent.written = performance.now() - begin;
    if (!changed) done();
    this.said = changed ? '' : 'This changed nothing.';
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
    const known = from.known && { ...from.known, prompts: { ...from.known.prompts, last: null } };
    this.steps.add(unpack(from.packed), known, `${from.what}, started over`);
    this.put(unpack(from.packed));
    this.said = 'Started over.';
    this.changed();
  }

  heardEdit({ detail }) {
    if (detail.segmentationId !== SEGMENTATION) return;
    this.brushed = true;
    clearTimeout(this.edit);
    this.edit = setTimeout(() => (this.pressed ? this.heardEdit({ detail }) : this.settleEdit()), SETTLED);
  }

  /** What a brush has changed since the last step becomes one. */
  settleEdit() {
    clearTimeout(this.edit);
    if (this.closed || !this.brushed) return;
    this.brushed = false;
    const data = this.onScreen();
    if (equal(data, this.shown)) return;
    if (!this.steps.now) this.steps.add(EMPTY, null, 'nothing drawn');
    this.steps.add(data, null, 'drawn by hand');
    this.shown = data;
    this.changed();
  }

  /** Keep what is on the screen: 'final' submits it, 'draft' keeps it for later. */
  save(tag) {
    return this.work('Saving', async () => {
      this.settleEdit();
      const label = this.map.label(this.onScreen()), step = this.steps.now;
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
    const world = this.map.largestSlice(this.shown, value);
    if (world) this.views.lookAt(world);
  }

  places() {
    return (this.facts?.trust?.places ?? []).map(({ centre }) => ({ world: otherHand(centre), kind: 'place' }));
  }

  markPlaces() {
    this.views.mark(this.places());
    this.views.box(this.box && cornersOf(this.info.grid, this.box));
  }

  /** Millilitres by label value, of what is on the screen. */
  volumes() {
    return this.steps.now ? this.map.volumes(this.shown) : [];
  }
}
