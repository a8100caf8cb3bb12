// What a reader has told the model since it began: clicks, scribbles, lassos and a box, and how the server wants
// them. Every request has all of them, so that a step back is a shorter list.

import { otherHand, toIndex, toWorld } from './labelmap.js';

export const BACKGROUND = 'background';
export const NOTHING_SAID = { clicks: [], strokes: [], box: null, last: null };
export const REACH_STEP = 0.25;

/** Whether nothing was said. */
export const isSilent = ({ clicks, strokes, box }) => !clicks.length && !strokes.length && !box;

/** The prompt that was placed last; null where something else was done after it. */
const lastOf = said => (said.last ? said[said.last].at(-1) : null);

/** How far the answer to the last prompt goes, -1 less to 1 more; null: there is none. */
export const reachOf = said => (lastOf(said) ? (lastOf(said).reach ?? 0) : null);

/** The same, and the answer to the last prompt goes less far or farther. */
export function withReach(said, by) {
  const reach = Math.max(-1, Math.min(1, reachOf(said) + by));
  return { ...said, [said.last]: [...said[said.last].slice(0, -1), { ...lastOf(said), reach }] };
}

/** The last prompt alone. */
export const onlyLast = said => ({ ...NOTHING_SAID, [said.last]: [lastOf(said)], last: said.last });

/** Fields of a request. */
export function fieldsOf({ clicks, strokes, box }, labels) {
  const fields = { [BACKGROUND]: [], scribbles: strokes }, reached = clicks.filter(({ reach }) => reach);
  for (const { name } of labels) fields[name] = [];
  for (const { name, voxel } of clicks) fields[name].push(voxel);
  if (reached.length) fields.reaches = reached.map(({ name: label, voxel, reach }) => ({ label, voxel, reach }));
  return box ? { ...fields, roi: box } : fields;
}

/**
 * The voxels that a line goes through, as runs [i, j, k, n] along the first axis.
 * @param {{shape: number[], affine: number[][]}} grid of the reference
 * @param {number[][]} path points, LPS mm
 */
export function runsAlong(grid, path) {
  const places = path.map(world => toIndex(grid.affine, otherHand(world))), voxels = new Map();
  places.forEach((to, at) => {
    const from = places[Math.max(0, at - 1)];
    const parts = 1 + Math.ceil(2 * Math.max(...to.map((one, axis) => Math.abs(one - from[axis]))));
    for (let part = 1; part <= parts; part++) {
      const voxel = to.map((one, axis) => Math.round(from[axis] + ((one - from[axis]) * part) / parts));
      if (voxel.every((one, axis) => one >= 0 && one < grid.shape[axis])) voxels.set(voxel.join(), voxel);
    }
  });
  return asRuns([...voxels.values()]);
}

/**
 * The voxels that a line encloses in the slice in which it was drawn, as runs: those whose centres lie inside it
 * by the even-odd rule. Its ends are joined.
 * @param {object} grid of the reference
 * @param {number[][]} path points, LPS mm
 * @param {number[]} normal of that slice, LPS
 */
export function runsInside(grid, path, normal) {
  const places = path.map(world => toIndex(grid.affine, otherHand(world))), steps = stepsOf(grid, normal);
  const depth = depthOf(grid, steps), [across, down] = [0, 1, 2].filter(axis => axis !== depth);
  const plane = steps.reduce((sum, step, axis) => sum + step * places[0][axis], 0), voxels = [];
  const ends = axis => places.reduce(([low, high], place) =>
    [Math.min(low, place[axis]), Math.max(high, place[axis])], [Infinity, -Infinity]);
  const range = axis => {
    const [low, high] = ends(axis);
    return [Math.max(0, Math.ceil(low)), Math.min(grid.shape[axis] - 1, Math.floor(high))];
  };
  const [left, right] = range(across), [top, bottom] = range(down);
  for (let y = top; y <= bottom; y++) {
    const crossings = places.flatMap((to, at) => {
      const from = places.at(at - 1); // the last one is joined with the first
      if (from[down] > y === to[down] > y) return [];
      return [from[across] + ((y - from[down]) / (to[down] - from[down])) * (to[across] - from[across])];
    });
    for (let x = left; x <= right; x++) {
      if (crossings.filter(one => one < x).length % 2 === 0) continue;
      const voxel = [0, 0, 0];
      [voxel[across], voxel[down]] = [x, y];
      voxel[depth] = Math.round((plane - steps[across] * x - steps[down] * y) / steps[depth]);
      if (voxel[depth] >= 0 && voxel[depth] < grid.shape[depth]) voxels.push(voxel);
    }
  }
  return asRuns(voxels);
}

/** Voxels, each once, as runs [i, j, k, n] along the first axis. */
function asRuns(voxels) {
  const sorted = voxels.sort((a, b) => a[2] - b[2] || a[1] - b[1] || a[0] - b[0]), runs = [];
  for (const [i, j, k] of sorted) {
    const last = runs.at(-1);
    if (last && last[1] === j && last[2] === k && last[0] + last[3] === i) last[3]++;
    else runs.push([i, j, k, 1]);
  }
  return runs;
}

/** How far a step of one voxel along each axis goes along a direction (LPS), mm. */
const stepsOf = (grid, direction) =>
  [0, 1, 2].map(axis => otherHand(direction).reduce((sum, part, row) => sum + part * grid.affine[row][axis], 0));

/** The axis that goes through the slices, of which the steps along their normal are given. */
function depthOf(grid, steps) {
  const along = steps.map((step, axis) => Math.abs(step) / Math.hypot(...grid.affine.map(row => row[axis])));
  return along.indexOf(Math.max(...along));
}

/**
 * The box over a rectangle that was drawn, through all slices: [i1, i2, j1, j2, k1, k2]; null: it is outside.
 * @param {object} grid of the reference
 * @param {number[][]} corners two points, LPS mm
 * @param {number[]} normal of the slice on which they lie, LPS
 */
export function boxOver(grid, corners, normal) {
  const depth = depthOf(grid, stepsOf(grid, normal));
  const [one, other] = corners.map(world => toIndex(grid.affine, otherHand(world)));
  const box = grid.shape.flatMap((count, axis) => {
    if (axis === depth) return [0, count - 1];
    const ends = [one[axis], other[axis]].map(Math.round).sort((a, b) => a - b);
    return [Math.max(0, ends[0]), Math.min(count - 1, ends[1])];
  });
  return box.every((end, at) => at % 2 || end <= box[at + 1]) ? box : null;
}

/** Four corners of a box, LPS mm, halfway along the axis that it fills. */
export function cornersOf(grid, box) {
  const ends = [0, 1, 2].map(axis => [box[2 * axis] - 0.5, box[2 * axis + 1] + 0.5]);
  const fills = ends.map(([low, high], axis) => (high - low) / grid.shape[axis]);
  const depth = fills.lastIndexOf(Math.max(...fills)), middle = (ends[depth][0] + ends[depth][1]) / 2;
  const [across, down] = [0, 1, 2].filter(axis => axis !== depth);
  return [[0, 0], [0, 1], [1, 1], [1, 0]].map(([one, other]) => {
    const index = [middle, middle, middle];
    index[across] = ends[across][one];
    index[down] = ends[down][other];
    return otherHand(toWorld(grid.affine, index));
  });
}
