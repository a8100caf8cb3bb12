// The segmentation as the viewer holds it: one volume on the voxels of the reference series, shown in every
// viewport. The server's grid of that series is the truth; the viewer may list the same voxels in another
// order, and a table says which is which. Where the two do not have the same voxels, nothing is shown.

import { EMPTY, counts, largestSlice, tight, valueAt } from './crop.js';

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

/** How the server's grid stands in the viewer's volume: its first voxel, and along which axis each of its own goes. */
function axesOf({ affine, shape }, volume) {
  const place = index => [...volume.imageData.worldToIndex(otherHand(toWorld(affine, index)))];
  const begin = place([0, 0, 0]), axes = [];
  const away = point => Math.max(...point.map(one => Math.abs(one - Math.round(one))));
  for (let axis = 0; axis < 3; axis++) {
    const index = [0, 0, 0];
    index[axis] = Math.max(1, shape[axis] - 1);
    const end = place(index), step = end.map((one, k) => Math.round((one - begin[k]) / index[axis]));
    if (step.filter(one => Math.abs(one) === 1).length !== 1 || away(end) > FARTHEST || away(begin) > FARTHEST)
      return null;
    const along = step.findIndex(one => one);
    axes.push({ along, sign: step[along] });
  }
  return { first: begin.map(Math.round), axes };
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
    const places = axesOf(grid, reference);
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

  /** Pixels of the viewer's slices, the first first. */
  slices() {
    const { cache } = window.cornerstone;
    return this.volume.imageIds.map(id => cache.getImage(id).voxelManager.getScalarData());
  }

  /** A voxel of the server's grid in the viewer's volume. */
  there(index) {
    const place = [...this.first];
    this.axes.forEach(({ along, sign }, axis) => (place[along] += sign * index[axis]));
    return place;
  }

  /** A voxel of the viewer's volume in the server's grid. */
  here(place) {
    return this.axes.map(({ along, sign }) => sign * (place[along] - this.first[along]));
  }

  /** The label map on the screen, cut to its labels. */
  read() {
    const slices = this.slices(), box = boxOf(slices, this.volume.dimensions);
    if (!box) return EMPTY;
    const ends = box.map(place => this.here(place));
    const [begin, last] = [Math.min, Math.max].map(end => [0, 1, 2].map(axis => end(ends[0][axis], ends[1][axis])));
    const size = last.map((end, axis) => end - begin[axis] + 1);
    const crop = { begin, size, data: new Uint8Array(size[0] * size[1] * size[2]) };
    this.walk(crop, (at, slice, pixel) => (crop.data[at] = slices[slice][pixel]));
    return crop;
  }

  /** Put a label map into the viewer; only slices that change go to the GPU. Viewports are to be painted then. */
  write(crop) {
    const slices = this.slices(), changed = new Set();
    const put = (slice, pixel, value) => {
      if (slices[slice][pixel] === value) return;
      slices[slice][pixel] = value;
      changed.add(slice);
    };
    const old = this.read();
    this.walk(old, (at, slice, pixel, index) => put(slice, pixel, valueAt(crop, index)));
    this.walk(crop, (at, slice, pixel) => put(slice, pixel, crop.data[at]));
    const { imageData, vtkOpenGLTexture } = this.volume;
    for (const slice of changed) vtkOpenGLTexture.setUpdatedFrame(slice);
    if (changed.size) imageData.modified();
  }

  /** Call visit(at, slice, pixel, index) of every voxel of a box of the server's grid: place in its data, in the viewer. */
  walk(crop, visit) {
    const [columns] = this.volume.dimensions, start = this.there(crop.begin), index = [0, 0, 0];
    const pixels = this.axes.map(({ along, sign }) => [sign, sign * columns, 0][along]);
    const slices = this.axes.map(({ along, sign }) => [0, 0, sign][along]);
    const begin = start[0] + columns * start[1];
    let at = 0;
    for (let k = 0; k < crop.size[2]; k++)
      for (let j = 0; j < crop.size[1]; j++)
        for (let i = 0; i < crop.size[0]; i++) {
          index[0] = crop.begin[0] + i;
          index[1] = crop.begin[1] + j;
          index[2] = crop.begin[2] + k;
          const slice = start[2] + i * slices[0] + j * slices[1] + k * slices[2];
          visit(at++, slice, begin + i * pixels[0] + j * pixels[1] + k * pixels[2], index);
        }
  }

  /** A label map as a file is made of it; one empty voxel where there is no label. */
  label(crop) {
    const { begin, size, data } = crop.data.length ? crop : { begin: [0, 0, 0], size: [1, 1, 1], data: new Uint8Array(1) };
    const place = toWorld(this.grid.affine, begin);
    return { size, affine: this.grid.affine.map((row, axis) => [row[0], row[1], row[2], place[axis]]), data };
  }

  /**
   * A label map that the server sent, cut to its labels.
   * @throws where it lies on another grid
   */
  accept({ size, affine, data }) {
    const place = toIndex(this.grid.affine, affine.map(row => row[3])), begin = place.map(Math.round);
    const end = size.map((count, axis) => begin[axis] + count - 1);
    const far = toIndex(this.grid.affine, toWorld(affine, size.map(count => count - 1)));
    const inside = begin.every((one, axis) => one >= 0 && end[axis] < this.grid.shape[axis]);
    const off = [0, 1, 2].map(axis => Math.abs(place[axis] - begin[axis]) + Math.abs(far[axis] - end[axis]));
    if (!inside || Math.max(...off) > FARTHEST)
      throw new Error('The segmentation lies on the voxels of another series: it cannot be shown here.');
    return tight({ begin, size, data });
  }

  /** The voxel of the server's grid at a point, LPS mm; null outside. */
  voxelAt(world) {
    const index = toIndex(this.grid.affine, otherHand(world)).map(Math.round);
    return index.every((value, axis) => value >= 0 && value < this.grid.shape[axis]) ? index : null;
  }

  /** Millilitres by label value. */
  volumes(crop) {
    const [a, b, c] = [0, 1, 2].map(axis => this.grid.affine.map(row => row[axis]));
    const voxel = Math.abs(dot(a, cross(b, c))) / 1000;
    return counts(crop).map(count => count * voxel);
  }

  /** Where most of a label is, LPS mm; 0: of all; null: there is none. */
  largestSlice(crop, value) {
    const index = largestSlice(crop, value);
    return index && otherHand(toWorld(this.grid.affine, index));
  }
}

/** First and last place of what is not empty in the viewer's slices, as a box; null: nothing. */
function boxOf(slices, [columns]) {
  const low = [Infinity, Infinity, Infinity], high = [-1, -1, -1];
  slices.forEach((pixels, slice) => {
    const words = wordsOf(pixels);
    for (let at = 0; at < pixels.length; at++) {
      if (words && !(at & 3)) {
        while (at + 4 <= pixels.length && !words[at >> 2]) at += 4;
        if (at >= pixels.length) break;
      }
      if (!pixels[at]) continue;
      const place = [at % columns, Math.floor(at / columns), slice];
      for (let axis = 0; axis < 3; axis++) {
        low[axis] = Math.min(low[axis], place[axis]);
        high[axis] = Math.max(high[axis], place[axis]);
      }
    }
  });
  return high[0] < 0 ? null : [low, high];
}

/** Bytes four at a time, where they lie so: to see quickly where all are zero. */
const wordsOf = ({ buffer, byteOffset, length }) =>
  byteOffset % 4 || length < 4 ? null : new Uint32Array(buffer, byteOffset, Math.floor(length / 4));
