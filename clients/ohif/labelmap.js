// The segmentation as the viewer holds it: one volume on the voxels of the reference series, shown in every
// viewport. The server's grid of that series is the truth; the viewer may list the same voxels in another
// order, and a table says which is which. Where the two do not have the same voxels, nothing is shown.

export const SEGMENTATION = 'slem';
const FARTHEST = 0.1; // voxels between the places that server and viewer give to a voxel
const LPS = [-1, -1, 1];

const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** Where a point lies in voxels: the inverse of an affine of three rows. */
export function toIndex(affine, world) {
  const [a, b, c] = [0, 1, 2].map(axis => affine.map(row => row[axis]));
  const moved = world.map((value, row) => value - affine[row][3]), volume = dot(a, cross(b, c));
  return [dot(moved, cross(b, c)), dot(moved, cross(c, a)), dot(moved, cross(a, b))].map(one => one / volume);
}

export const toWorld = (affine, index) => affine.map(row => dot(row, index) + row[3]);
export const otherHand = world => world.map((value, axis) => LPS[axis] * value); // RAS <-> LPS

/** The volume that the viewer has made of a series; undefined until then. */
export function volumeOf(series) {
  const { cache, metaData } = window.cornerstone;
  return cache.getVolumes().find(({ imageIds }) =>
    imageIds?.length && metaData.get('generalSeriesModule', imageIds[0])?.seriesInstanceUID === series);
}

/** How the voxels of the server's grid stand in the viewer's volume: first place, and step along each axis. */
function strides({ affine, shape }, volume) {
  const place = index => [...volume.imageData.worldToIndex(otherHand(toWorld(affine, index)))];
  const begin = place([0, 0, 0]), steps = [], { dimensions } = volume;
  const size = [1, dimensions[0], dimensions[0] * dimensions[1]];
  const away = point => Math.max(...point.map(one => Math.abs(one - Math.round(one))));
  const flat = point => point.reduce((sum, one, axis) => sum + Math.round(one) * size[axis], 0);
  for (let axis = 0; axis < 3; axis++) {
    const index = [0, 0, 0];
    index[axis] = Math.max(1, shape[axis] - 1);
    const end = place(index), step = end.map((one, k) => (one - begin[k]) / index[axis]);
    const along = step.filter(one => Math.abs(Math.round(one)) === 1).length;
    if (along !== 1 || away(end) > FARTHEST || away(begin) > FARTHEST) return null;
    steps.push(flat(step));
  }
  return { begin: flat(begin), steps };
}

export class Labelmap {
  /**
   * @param {{shape: number[], affine: number[][]}} grid of the reference, as the server has it: RAS mm
   * @param {object} reference the viewer's volume of that series
   * @param {{name: string, value: number, color: number[]}[]} labels
   */
  constructor(grid, reference, labels) {
    this.grid = grid;
    this.labels = labels;
    const count = grid.shape[0] * grid.shape[1] * grid.shape[2];
    const places = strides(grid, reference);
    if (!places || reference.dimensions[0] * reference.dimensions[1] * reference.dimensions[2] !== count)
      throw new Error('The viewer and the server put the voxels of this series in different places: it cannot ' +
        'be segmented here. Slices that are missing, or not evenly spaced, are a usual reason.');
    Object.assign(this, places);
    const { volumeLoader } = window.cornerstone, { segmentation, Enums } = window.cornerstoneTools;
    this.volume = volumeLoader.createAndCacheDerivedLabelmapVolume(reference.volumeId, { volumeId: SEGMENTATION });
    const segments = {};
    for (const { name, value } of labels)
      segments[value] = { segmentIndex: value, label: name, locked: false, active: value === 1, cachedStats: {} };
    segmentation.addSegmentations([
      {
        segmentationId: SEGMENTATION,
        representation: {
          type: Enums.SegmentationRepresentations.Labelmap,
          data: { volumeId: SEGMENTATION, referencedVolumeId: reference.volumeId },
        },
        config: { label: 'Segmentation', segments },
      },
    ]);
  }

  /** Show it in a viewport, in the colours of the model's card. */
  async showIn(viewport) {
    const { segmentation } = window.cornerstoneTools;
    await segmentation.addLabelmapRepresentationToViewport(viewport, [{ segmentationId: SEGMENTATION }]);
    for (const { value, color } of this.labels)
      segmentation.config.color.setSegmentIndexColor(viewport, SEGMENTATION, value, [...color, 255]);
  }

  /** The voxels on the screen, in the server's order. */
  read() {
    const shown = this.volume.voxelManager.getCompleteScalarDataArray();
    const out = new Uint8Array(shown.length);
    this.walk((mine, theirs) => (out[mine] = shown[theirs]));
    return out;
  }

  /** Put voxels, in the server's order, on the screen. */
  write(data) {
    const shown = new Uint8Array(data.length);
    this.walk((mine, theirs) => (shown[theirs] = data[mine]));
    this.volume.voxelManager.setCompleteScalarDataArray(shown);
    window.cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(SEGMENTATION);
  }

  walk(visit) {
    const [columns, rows, slices] = this.grid.shape, [i, j, k] = this.steps;
    let mine = 0;
    for (let slice = 0; slice < slices; slice++)
      for (let row = 0; row < rows; row++) {
        let theirs = this.begin + row * j + slice * k;
        for (let column = 0; column < columns; column++, theirs += i) visit(mine++, theirs);
      }
  }

  /** The label map as a file is made of it. */
  label() {
    return { size: this.grid.shape, affine: this.grid.affine, data: this.read() };
  }

  /**
   * Voxels in the server's order, of a label map that it sent.
   * @throws where it lies on another grid
   */
  accept({ size, affine, data }) {
    const last = this.grid.shape.map(count => count - 1);
    const same = size.every((count, axis) => count === this.grid.shape[axis]) &&
      [[0, 0, 0], last].every(index => toWorld(affine, index).every(
        (value, axis) => Math.abs(value - toWorld(this.grid.affine, index)[axis]) < 0.1));
    if (!same) throw new Error('The segmentation lies on the voxels of another series: it cannot be shown here.');
    return data;
  }

  /** The voxel of the server's grid at a point, LPS mm; null outside. */
  voxelAt(world) {
    const index = toIndex(this.grid.affine, otherHand(world)).map(Math.round);
    return index.every((value, axis) => value >= 0 && value < this.grid.shape[axis]) ? index : null;
  }

  /** Millilitres by label value, of voxels in the server's order. */
  volumes(data) {
    const counts = new Array(256).fill(0), [a, b, c] = [0, 1, 2].map(axis => this.grid.affine.map(row => row[axis]));
    for (const value of data) counts[value]++;
    const voxel = Math.abs(dot(a, cross(b, c))) / 1000;
    return counts.map(count => count * voxel);
  }

  /** Centre of the slice (along the third axis) with most of a label, LPS mm; 0: of all; null: there is none. */
  largestSlice(data, value) {
    const [columns, rows, slices] = this.grid.shape, area = columns * rows;
    let best = null;
    for (let slice = 0; slice < slices; slice++) {
      let count = 0, across = 0, down = 0;
      for (let at = slice * area; at < (slice + 1) * area; at++)
        if (value ? data[at] === value : data[at]) {
          count++;
          across += (at - slice * area) % columns;
          down += Math.floor((at - slice * area) / columns);
        }
      if (count > (best?.count ?? 0)) best = { count, index: [across / count, down / count, slice] };
    }
    return best && otherHand(toWorld(this.grid.affine, best.index));
  }
}
