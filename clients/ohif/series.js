// Which series is which sequence, and the reader's own choice of it: a part of the panel. The choice counts for
// all readers, and begins the work on the case anew.

import { element } from './element.js';
import { chooseSeries, fetchSeries } from './server.js';

const RULES = 'rules', NONE = 'none', ID = 'id:'; // values of the lists (`series_form.py`)

export class SeriesChoice {
  /** @param {() => void} redraw draws the panel anew */
  constructor(redraw) {
    this.redraw = redraw;
    this.case = null; // whose lists these are
    this.fields = null; // of the server; null: not asked yet
    this.wanted = {}; // sequence -> value, where the reader has changed it
    this.open = false;
    this.asked = false;
    this.problem = '';
    this.sure = false; // unsaved work may be lost: the reader has said so
  }

  /** The part of the panel; null before a case is known. */
  draw(one) {
    if (!one.info) return null;
    if (this.case !== one.info.case)
      Object.assign(this, { case: one.info.case, fields: null, asked: false, wanted: {}, problem: '', sure: false });
    const toggled = event => {
      this.open = event.target.open;
      if (!this.open) this.asked = Boolean(this.fields); // after a failure it is asked again
      else if (!this.asked) this.load();
    };
    return element('details', { class: 'sequences', open: this.open, ontoggle: toggled },
      element('summary', { 'data-key': 'sequences' }, 'Sequences'),
      ...(this.fields ? this.lists(one) : []),
      this.problem ? element('p', { class: 'problem', role: 'alert' }, this.problem) : null);
  }

  lists(one) {
    const titles = Object.fromEntries(one.info.sequences.map(({ name, title }) => [name, title]));
    const whys = Object.fromEntries(one.info.sequences.map(({ name, why }) => [name, why]));
    const rows = this.fields.flatMap(({ sequence, options, value }) => {
      const now = this.wanted[sequence] ?? value, id = `series-${sequence}`;
      const chosen = event => {
        Object.assign(this, { wanted: { ...this.wanted, [sequence]: event.target.value }, problem: '', sure: false });
        this.redraw();
      };
      return [element('label', { for: id }, titles[sequence] ?? sequence),
        element('select', { id, 'data-key': id, title: whys[sequence], onchange: chosen },
          ...options.map(([key, text]) => element('option', { value: key, selected: key === now }, text)))];
    });
    const changed = this.fields.some(({ sequence, value }) => (this.wanted[sequence] ?? value) !== value);
    const text = this.sure && one.unsaved ? 'Use them without saving' : 'Use these series';
    return [element('div', { class: 'series' }, ...rows),
      element('button', { 'data-key': 'use series', disabled: Boolean(one.busy) || !changed,
        title: 'Counts for all readers; the work on this case begins anew', onclick: () => this.use(one) }, text)];
  }

  async load() {
    Object.assign(this, { asked: true, problem: '' });
    await this.attempt(async () => {
      const asked = this.case, { fields } = await fetchSeries(asked);
      if (asked === this.case) this.fields = fields;
    });
    this.redraw();
  }

  /** Send the choice and open the case anew; with unsaved work only when pressed twice. */
  async use(one) {
    if (one.unsaved && !this.sure) {
      this.sure = true;
      return this.redraw();
    }
    const chosen = {};
    for (const { sequence, value } of this.fields) {
      const now = this.wanted[sequence] ?? value;
      if (now !== RULES) chosen[sequence] = now === NONE ? '' : now.slice(ID.length);
    }
    await this.attempt(async () => {
      await chooseSeries(this.case, chosen);
      one.saved = one.steps.now; // the reader has said so
      location.reload();
    });
    return this.redraw();
  }

  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.problem = error.message;
    }
  }
}
