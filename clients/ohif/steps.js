// What the reader can take back: every segmentation that was on the screen, and what the server knew with it.
//
// The server follows clicks from a segmentation on: either its own automatic one, or one that was sent along.
// It wants all prompts since then with every request. So a step keeps them, and the number of that start; a
// step that a brush has changed is none that the server knows, and goes along with the next click.

const MOST = 100; // steps; each is a label map, packed

/** A label map as runs of equal voxels, [value, count, ...]. */
export function pack({ begin, size, data }) {
  const runs = [];
  for (let at = 0; at < data.length; ) {
    const start = at, value = data[at];
    while (at < data.length && data[at] === value) at++;
    runs.push(value, at - start);
  }
  return { begin, size, runs: Uint32Array.from(runs) };
}

export function unpack({ begin, size, runs }) {
  const data = new Uint8Array(size[0] * size[1] * size[2]);
  let at = 0;
  for (let run = 0; run < runs.length; run += 2) data.fill(runs[run], at, (at += runs[run + 1]));
  return { begin, size, data };
}

export class Steps {
  constructor() {
    this.done = [];
    this.undone = [];
  }

  /** What was on the screen before; undefined: nothing. */
  get before() {
    return this.done.at(-2);
  }

  /** What is on the screen; undefined: nothing yet. */
  get now() {
    return this.done.at(-1);
  }

  /**
   * One step further.
   * @param {object} crop the label map (`crop.js`)
   * @param {{start: number, prompts: object, facts: object}|null} known what the server knows; null: an edit
   * @param {string} what in words
   */
  add(crop, known, what) {
    this.done.push({ packed: pack(crop), known, what, facts: known?.facts ?? this.now?.facts ?? null });
    if (this.done.length > MOST) this.done.shift();
    this.undone = [];
  }

  /** Another outcome of the last step; what was before it stays. */
  replace(crop, known, what) {
    this.done.pop();
    this.add(crop, known, what);
  }

  back() {
    if (this.done.length < 2) return null;
    this.undone.push(this.done.pop());
    return this.now;
  }

  again() {
    if (!this.undone.length) return null;
    this.done.push(this.undone.pop());
    return this.now;
  }
}
