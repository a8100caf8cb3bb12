// The mode's panel: an element of our own, which shows a session and calls it.

import { element } from './element.js';
import { session } from './opened.js';
import { REACH_STEP, isSilent } from './prompts.js';
import { SeriesChoice } from './series.js';
import { fetchLearning } from './server.js';
import { BOX, BRUSH, CLICK, ERASER, LASSO, SCRIBBLE, WINDOW, setBrushRadius } from './tools.js';

export const PANEL = 'slem-label-panel';

const ASKING = [
  [CLICK, 'Click', 'Click where the chosen label should be. With Shift: nothing is there.'],
  [SCRIBBLE, 'Scribble', 'Draw over what should be the chosen label. With Shift: nothing is there.'],
  [LASSO, 'Lasso', 'Draw around the chosen label: all that is inside. With Shift: nothing is there.'],
  [BOX, 'Box', 'Drag a rectangle: labels are kept inside it, on every slice.'],
];
const BY_HAND = [
  [BRUSH, 'Brush', 'Paint the chosen label. What you paint goes along with the next click.'],
  [ERASER, 'Eraser', 'Take labels away. What you erase goes along with the next click.'],
  [WINDOW, 'Window', 'Drag to change brightness and contrast.'],
];
const KEYS = { '-': one => one.changeReach(-REACH_STEP), '+': one => one.changeReach(REACH_STEP) };
const LEARNING = 20_000; // ms between looks how learning stands
const RADIUS = [1, 40, 6]; // mm: least, most, at first

const STYLE = `
:host{display:block;height:100%;overflow:auto;color:#e8eefc;font:14px/1.4 Inter,system-ui,sans-serif}
main{padding:10px;display:flex;flex-direction:column;gap:10px}
h2{font-size:13px;margin:4px 0 0;color:#a9bcdf;font-weight:600}
p{margin:0}
button{font:inherit;color:#fff;background:#16335f;border:1px solid #3a5c94;border-radius:5px;padding:5px 9px;cursor:pointer}
button:hover:enabled{background:#22498a}
button:disabled{opacity:.45;cursor:default}
button:focus-visible,input:focus-visible,select:focus-visible,summary:focus-visible{outline:2px solid #ffe14d;outline-offset:1px}
button.main{background:#1f6feb;border-color:#1f6feb;font-weight:600}
.row{display:flex;flex-wrap:wrap;gap:6px}
.labels{display:grid;grid-template-columns:1fr auto auto;gap:4px 6px;align-items:center}
.label{display:flex;align-items:center;gap:8px;text-align:left;background:none;border-color:transparent}
[aria-pressed=true],[aria-checked=true]{border-color:#ffe14d;background:#22498a}
.swatch{width:14px;height:14px;border-radius:3px;flex:none}
.ml{font-variant-numeric:tabular-nums;text-align:right}
.tools{display:grid;grid-template-columns:repeat(3,1fr);gap:6px;margin-bottom:6px}
.of4{grid-template-columns:repeat(2,1fr)}
.jump{padding:2px 7px}
summary{cursor:pointer;color:#a9bcdf;font-size:13px;font-weight:600}
details[open] summary{margin-bottom:6px}
.series{display:grid;grid-template-columns:auto 1fr;gap:4px 8px;align-items:center;margin:6px 0}
select{font:inherit;color:#fff;background:#16335f;border:1px solid #3a5c94;border-radius:5px;padding:3px;min-width:0}
.warning,.problem{color:#ff9c9c;white-space:pre-line}
.problem{border-left:3px solid #ff5c5c;padding-left:8px}
.quiet{color:#a9bcdf}
a{color:#8cc0ff}
.places{display:flex;flex-direction:column;gap:4px}
.places button{text-align:left}
.busy::before{content:'';display:inline-block;width:10px;height:10px;margin-right:8px;border:2px solid #fff;
 border-right-color:transparent;border-radius:50%;animation:turn .8s linear infinite}
@keyframes turn{to{transform:rotate(1turn)}}
`;

class LabelPanel extends HTMLElement {
  constructor() {
    super();
    this.radius = RADIUS[2];
    this.leaving = false;
    this.series = new SeriesChoice(() => this.draw());
    this.body = element('main');
    this.attachShadow({ mode: 'open' }).append(element('style', {}, STYLE), this.body);
    this.draw = this.draw.bind(this);
    this.follow = this.follow.bind(this);
    this.keys = this.keys.bind(this);
    this.stay = this.stay.bind(this);
  }

  connectedCallback() {
    document.addEventListener('slem-session', this.follow);
    document.addEventListener('keydown', this.keys, true);
    window.addEventListener('beforeunload', this.stay);
    this.askLearning();
    this.timer = setInterval(() => this.askLearning(), LEARNING);
    this.follow();
  }

  disconnectedCallback() {
    document.removeEventListener('slem-session', this.follow);
    document.removeEventListener('keydown', this.keys, true);
    window.removeEventListener('beforeunload', this.stay);
    this.session?.removeEventListener('change', this.draw);
    clearInterval(this.timer);
  }

  follow() {
    this.session?.removeEventListener('change', this.draw);
    this.session = session();
    this.session?.addEventListener('change', this.draw);
    this.draw();
  }

  /** Ctrl+Z, Ctrl+Y and Ctrl+Shift+Z, - and +, but where somebody types. */
  keys(event) {
    const typing = event.composedPath()[0].matches?.('input:not([type=range]),textarea,select');
    if (!this.session || typing || event.altKey) return;
    const one = this.session, key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
    const acts = command ? { z: () => (event.shiftKey ? one.redo() : one.undo()), y: () => one.redo() } : KEYS;
    if (!Object.hasOwn(acts, key) || (!command && !one.model?.reaches)) return;
    event.preventDefault();
    event.stopPropagation();
    if (command || !event.repeat) acts[key](one);
  }

  stay(event) {
    if (this.session?.unsaved) event.preventDefault();
  }

  draw() {
    const one = this.session, focused = this.shadowRoot.activeElement?.dataset.key;
    if (!one) return this.body.replaceChildren();
    const parts = [this.state(one)], series = this.series.draw(one);
    if (one.map) parts.push(this.segments(one), this.tools(one), this.history(one), this.checks(one), this.keeping(one),
      this.learning());
    if (series) parts.push(series);
    this.body.replaceChildren(...parts.filter(Boolean));
    if (focused) this.body.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  button(one, text, act, more = {}) {
    return element('button', { 'data-key': text, disabled: Boolean(one.busy), onclick: act, ...more }, text);
  }

  state(one) {
    const lines = [];
    if (one.info) lines.push(element('p', { class: 'quiet' }, `${one.info.case} · ${one.info.state}` +
      (one.info.holder && one.info.holder !== 'you' ? ` · in hand: ${one.info.holder}` : '')));
    if (one.info?.missing.length)
      lines.push(element('p', { class: 'quiet' }, `Missing: ${one.info.missing.join(', ')}`));
    if (one.busy) lines.push(element('p', { class: 'busy', role: 'status' }, `${one.busy} …`));
    else if (one.said) lines.push(element('p', { class: 'said', role: 'status' }, one.said));
    if (one.problem) lines.push(element('p', { class: 'problem', role: 'alert' }, one.problem));
    for (const { text } of one.facts?.warnings ?? [])
      lines.push(element('p', { class: 'warning', role: 'alert' }, text));
    return element('section', { class: 'state' }, ...lines);
  }

  segments(one) {
    const volumes = one.volumes(), rows = [];
    for (const { name, value, color } of one.model.labels) {
      const swatch = element('span', { class: 'swatch', style: `background:rgb(${color})` });
      const chosen = { role: 'radio', 'aria-checked': String(one.label === value), class: 'label' };
      rows.push(
        element('button', { ...chosen, 'data-key': name, onclick: () => one.chooseLabel(value) }, swatch, name),
        element('span', { class: 'ml', 'data-label': name }, volumes.length ? `${volumes[value].toFixed(1)} ml` : '–'),
        element('button', { class: 'jump', 'data-key': `jump ${name}`, title: `The slice with most ${name}`,
          'aria-label': `Go to the slice with most ${name}`, disabled: !volumes[value],
          onclick: () => one.lookAtLargest(value) }, '⇢'));
    }
    const run = this.button(one, 'Segment', () => one.segment(), { class: one.shown ? '' : 'main' });
    return element('section', {}, element('div', { class: 'row' }, run), element('h2', {}, 'Segments'),
      element('div', { class: 'labels', role: 'radiogroup', 'aria-label': 'Label to paint' }, ...rows));
  }

  tools(one) {
    const groups = one.model.clicks ? [ASKING, BY_HAND] : [BY_HAND];
    const rows = groups.map(group => element('div', { class: `tools of${group.length}` }, ...group.map(([tool, name, title]) =>
      element('button', { 'data-key': name, title, 'aria-pressed': String(one.tool === tool),
        onclick: () => this.take(tool) }, name))));
    const painting = one.tool === BRUSH || one.tool === ERASER;
    const size = painting ? element('label', { class: 'quiet' }, 'Radius ', element('input', { type: 'range',
      min: RADIUS[0], max: RADIUS[1], value: this.radius, 'data-key': 'radius', 'aria-label': 'Radius, mm',
      oninput: event => this.resize(Number(event.target.value)) })) : null;
    const how = groups.flat().find(([tool]) => tool === one.tool)?.[2] ?? '';
    const box = one.box ? this.button(one, 'Remove the box', () => one.clearBox()) : null;
    return element('section', {}, element('h2', {}, 'Mouse'), ...rows, element('p', { class: 'quiet' }, how), size, box);
  }

  take(tool) {
    this.session.choose(tool);
    if (tool === BRUSH || tool === ERASER) setBrushRadius(this.radius);
  }

  resize(radius) {
    this.radius = radius;
    setBrushRadius(radius);
  }

  history(one) {
    const steps = one.steps;
    return element('section', { class: 'row' },
      this.button(one, 'Undo', () => one.undo(), { title: 'Ctrl+Z', disabled: one.busy || steps.done.length < 2 }),
      this.button(one, 'Redo', () => one.redo(), { title: 'Ctrl+Y', disabled: one.busy || !steps.undone.length }),
      this.button(one, 'Start over', () => one.startOver(), { disabled: one.busy || steps.done.length < 2 }),
      ...(one.model.reaches ? this.reach(one) : []));
  }

  /** Less and more of the last click, scribble or lasso. */
  reach(one) {
    const now = one.reach, at = now === null ? '' : `${now > 0 ? '+' : ''}${now / REACH_STEP}`;
    const button = (name, key, by, end) => this.button(one, name, () => one.changeReach(by), {
      title: `The last click, scribble or lasso reaches ${end} (${key})`,
      disabled: Boolean(one.busy) || now === null || now === Math.sign(by),
    });
    return [button('Less', '-', -REACH_STEP, 'less far'), button('More', '+', REACH_STEP, 'farther'),
      element('span', { class: 'quiet', 'data-key': 'reach' }, at)];
  }

  checks(one) {
    const { trust, notes } = one.facts ?? {}, places = trust?.places ?? [];
    const told = (notes ?? []).map(text => element('p', { class: 'quiet' }, text));
    if (!places.length && !trust?.quality && !told.length) return null;
    const quality = trust?.quality ? element('p', {}, `Expected: ${trust.quality.step}`) : null;
    const buttons = places.map(({ text, centre }, at) => element('button', { 'data-key': `place ${at}`,
      onclick: () => one.views.lookAt([-centre[0], -centre[1], centre[2]]) }, text));
    return element('section', {}, element('h2', {}, 'Check here'), quality,
      element('div', { class: 'places' }, ...buttons), ...told);
  }

  learning() {
    const now = this.learned, round = now?.round;
    if (!round) return null;
    const left = round.seconds_left ? `, about ${Math.ceil(round.seconds_left / 60)} min left` : '';
    const text = now.running ? `${round.model} learns: ${round.stage}, epoch ${round.epoch} of ${round.epochs}${left}.`
      : `Last round of ${round.model}: ${round.reason || round.status}.`;
    return element('section', { class: 'learning' }, element('h2', {}, 'Learning'),
      element('p', { class: 'quiet' }, text, ' ', element('a', { href: '/learning', target: '_blank' }, 'More')));
  }

  /** Ask how learning stands; a server that does not answer says so where somebody waits for it. */
  async askLearning() {
    const now = await fetchLearning().catch(() => null), before = JSON.stringify(this.learned ?? null);
    this.learned = now;
    if (this.isConnected && JSON.stringify(now) !== before) this.draw();
  }

  keeping(one) {
    const nothing = !one.steps.now, facts = one.steps.now?.known;
    const unchanged = facts && isSilent(facts.prompts);
    const leave = this.leaving && one.unsaved ? 'Leave without saving' : 'Next case';
    return element('section', { class: 'row' },
      this.button(one, unchanged ? 'Confirm unchanged' : 'Submit', () => one.save('final'),
        { class: 'main', 'data-key': 'submit', disabled: one.busy || nothing || !one.unsaved }),
      this.button(one, 'Save draft', () => one.save('draft'), { disabled: one.busy || nothing || !one.unsaved }),
      this.button(one, leave, () => this.next(), { 'data-key': 'next' }));
  }

  next() {
    if (this.session.unsaved && !this.leaving) {
      this.leaving = true;
      return this.draw();
    }
    return this.session.next();
  }
}

if (!customElements.get(PANEL)) customElements.define(PANEL, LabelPanel);
