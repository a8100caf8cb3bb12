// A label map without the empty voxels around it: {begin, size, data}, where its box begins in the grid, how
// large it is, and its values, first axis fastest. A tumour fills a fiftieth of a head: what is sent, compared,
// counted and painted anew after a click is that much less.

export const EMPTY = { begin: [0, 0, 0], size: [0, 0, 0], data: new Uint8Array(0) };

/** Call visit(i, j, k, at) of every voxel: index in the grid, and place in `data`. */
export function eachVoxel({ begin, size }, visit) {
  let at = 0;
  for (let k = begin[2]; k < begin[2] + size[2]; k++)
    for (let j = begin[1]; j < begin[1] + size[1]; j++)
      for (let i = begin[0]; i < begin[0] + size[0]; i++) visit(i, j, k, at++);
}

/** The value at an index of the grid; 0 outside the box. */
export function valueAt({ begin, size, data }, index) {
  const [i, j, k] = [index[0] - begin[0], index[1] - begin[1], index[2] - begin[2]];
  const inside = i >= 0 && j >= 0 && k >= 0 && i < size[0] && j < size[1] && k < size[2];
  return inside ? data[(k * size[1] + j) * size[0] + i] : 0;
}

/** A box within the box. */
function cut({ begin, size, data }, low, shape) {
  const out = new Uint8Array(shape[0] * shape[1] * shape[2]);
  for (let k = 0; k < shape[2]; k++)
    for (let j = 0; j < shape[1]; j++) {
      const from = ((k + low[2] - begin[2]) * size[1] + j + low[1] - begin[1]) * size[0] + low[0] - begin[0];
      out.set(data.subarray(from, from + shape[0]), (k * shape[1] + j) * shape[0]);
    }
  return { begin: low, size: shape, data: out };
}

/** The same with the smallest box. */
export function tight(crop) {
  const low = [Infinity, Infinity, Infinity], high = [-1, -1, -1];
  eachVoxel(crop, (i, j, k, at) => {
    if (!crop.data[at]) return;
    if (i < low[0]) low[0] = i;
    if (i > high[0]) high[0] = i;
    if (j < low[1]) low[1] = j;
    if (j > high[1]) high[1] = j;
    if (k < low[2]) low[2] = k;
    if (k > high[2]) high[2] = k;
  });
  return high[0] < 0 ? EMPTY : cut(crop, low, high.map((end, axis) => end - low[axis] + 1));
}

/** Whether two tight ones are the same. */
export const equal = (one, other) =>
  one.begin.join() === other.begin.join() && one.size.join() === other.size.join() &&
  one.data.every((value, at) => value === other.data[at]);

/** How many voxels have each value. */
export function counts({ data }) {
  const found = new Array(256).fill(0);
  for (const value of data) found[value]++;
  return found;
}

/** Centre, as an index, of the slice (along the third axis) with most of a value; 0: of all; null: none. */
export function largestSlice({ begin, size, data }, value) {
  const area = size[0] * size[1];
  let best = null;
  for (let slice = 0; slice < size[2]; slice++) {
    let count = 0, across = 0, down = 0;
    for (let at = slice * area; at < (slice + 1) * area; at++)
      if (value ? data[at] === value : data[at]) {
        count++;
        across += (at - slice * area) % size[0];
        down += Math.floor((at - slice * area) / size[0]);
      }
    if (count > (best?.count ?? 0)) best = { count, index: [across / count, down / count, slice] };
  }
  return best && best.index.map((place, axis) => place + begin[axis]);
}
