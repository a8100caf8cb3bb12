// The viewports of the mode: one after the other, the place where all look, what is drawn over them.

import { volumeOf } from './labelmap.js';
import { MOST, viewportId } from './layout.js';
import { BOX, LASSO } from './tools.js';
import { rangeOf } from './window.js';

const NEAR = 4; // mm from the slice that is shown, within which a mark is drawn
const SVG = 'http://www.w3.org/2000/svg';

export class Views {
  constructor(services, info) {
    this.services = services;
    this.sequences = info.sequences.slice(0, MOST);
    this.ids = this.sequences.map(({ name }) => viewportId(name));
    this.marks = [];
    this.line = null; // that is being drawn: {kind, view, path}
    this.frameBox = null; // corners of the box that holds, LPS mm
    this.pointer = null; // LPS mm
    this.frame = 0;
  }

  all() {
    const { cornerstoneViewportService } = this.services;
    return this.ids.map(id => cornerstoneViewportService.getCornerstoneViewport(id)).filter(Boolean);
  }

  /** All, the given one first. */
  from(view) {
    const all = this.all();
    return view ? [view, ...all.filter(one => one !== view)] : all;
  }

  /** Make a viewport OHIF's active one: else a first stroke in it would only do that. */
  activate({ id }) {
    const { viewportGridService } = this.services;
    if (viewportGridService.getActiveViewportId() !== id) viewportGridService.setActiveViewportId(id);
  }

  /** Paint all anew; the others once the first is there, so that a reader sees a click's answer sooner. */
  paint(view) {
    const [first, ...others] = this.from(view), { IMAGE_RENDERED } = window.cornerstone.Enums.Events;
    const painted = () => others.forEach(one => one.render());
    first.element.addEventListener(IMAGE_RENDERED, painted, { once: true });
    first.render();
  }

  /** True once every viewport has all its images. */
  ready() {
    const views = this.all();
    return views.length === this.ids.length && views.every(view => view.getImageData?.()) &&
      this.sequences.every(({ series }) => isLoaded(volumeOf(series)));
  }

  /** Brightness and contrast to begin with, and what each is called. */
  begin() {
    const { cornerstoneViewportService } = this.services;
    for (const { name, series, title } of this.sequences) {
      const view = cornerstoneViewportService.getCornerstoneViewport(viewportId(name)), volume = volumeOf(series);
      const voiRange = rangeOf(volume);
      if (voiRange) view.setProperties({ voiRange }, volume.volumeId);
      view.element.querySelector(':scope > .slem-title')?.remove();
      const said = document.createElement('div');
      said.className = 'slem-title';
      said.textContent = title;
      said.style.cssText = 'position:absolute;left:14px;top:8px;pointer-events:none;' +
        'z-index:2;color:#fff;font:600 15px Inter,system-ui,sans-serif;text-shadow:0 0 4px #000';
      view.element.append(said);
      view.render();
    }
  }

  /** Bring a point, LPS mm, into the slice that all show. */
  lookAt(world) {
    for (const view of this.all()) {
      const { focalPoint, position, viewPlaneNormal } = view.getCamera();
      const away = viewPlaneNormal.reduce((sum, part, axis) => sum + part * (world[axis] - focalPoint[axis]), 0);
      const moved = point => point.map((value, axis) => value + away * viewPlaneNormal[axis]);
      view.setCamera({ focalPoint: moved(focalPoint), position: moved(position) });
      view.render();
    }
    this.draw();
  }

  /** Draw marks: [{world, kind}], kind a class of the style below. */
  mark(marks) {
    this.marks = marks;
    this.draw();
  }

  /** Draw a line while the mouse draws it; null: no more. */
  drawing(line) {
    this.line = line;
    this.draw();
  }

  /** Draw the box that holds: its corners, LPS mm; null: there is none. */
  box(corners) {
    this.frameBox = corners;
    this.draw();
  }

  /** Draw the crosshair and the marks anew, once a frame. */
  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      for (const view of this.all()) this.drawOver(view);
    });
  }

  drawOver(view) {
    const layer = layerOf(view.element), { focalPoint, viewPlaneNormal } = view.getCamera();
    layer.replaceChildren();
    const depth = world => Math.abs(viewPlaneNormal.reduce(
      (sum, part, axis) => sum + part * (world[axis] - focalPoint[axis]), 0));
    if (this.pointer && view !== this.pointer.view) {
      const [x, y] = view.worldToCanvas(this.pointer.world);
      for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        const [from, to] = [4, 12].map(away => [x + away * across, y + away * down]);
        layer.append(shape('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: 'cross' }));
      }
    }
    const points = path => path.map(world => [...view.worldToCanvas(world)].join()).join(' ');
    if (this.frameBox) layer.append(shape('polygon', { points: points(this.frameBox), class: 'box' }));
    if (this.line?.kind === BOX) {
      const [from, to] = [this.line.path[0], this.line.path.at(-1)].map(world => view.worldToCanvas(world));
      layer.append(shape('polygon', { class: 'box',
        points: [from, [from[0], to[1]], to, [to[0], from[1]]].map(corner => [...corner].join()).join(' ') }));
    } else if (this.line) {
      const [name, kind] = this.line.kind === LASSO ? ['polygon', 'lasso'] : ['polyline', 'scribble'];
      layer.append(shape(name, { points: points(this.line.path), class: kind }));
    }
    for (const { world, kind, path } of this.marks) {
      if (kind === 'scribble') {
        if (depth(path[0]) <= NEAR) layer.append(shape('polyline', { points: points(path), class: 'scribble working' }));
        continue;
      }
      if (depth(world) > NEAR) continue;
      const [cx, cy] = view.worldToCanvas(world);
      layer.append(shape('circle', { cx, cy, r: kind === 'place' ? 14 : 7, class: kind }));
    }
  }
}

/** Whether all slices are there; the volume's own word for it stays out where they came another way. */
function isLoaded(volume) {
  const { cache } = window.cornerstone;
  return Boolean(volume) && volume.imageIds.every(id => cache.getImage(id));
}

const STYLE = `.cross{stroke:#ffe14d;stroke-width:1.5}
.place{fill:none;stroke:#ffe14d;stroke-width:1.5;stroke-dasharray:4 3}
.scribble,.box{fill:none;stroke:#fff;stroke-width:2}
.lasso{fill:#fff3;stroke:#fff;stroke-width:2}
.box{stroke:#ffe14d;stroke-dasharray:7 4}
.working{fill:none;stroke:#fff;stroke-width:2;stroke-dasharray:11 4;animation:turn .8s linear infinite}
@keyframes turn{to{stroke-dashoffset:-15}}`;

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Our drawing over a viewport, which takes no part in what the mouse does. */
function layerOf(element) {
  let drawing = element.querySelector(':scope > .slem-layer');
  if (!drawing) {
    drawing = shape('svg', { class: 'slem-layer' });
    drawing.style.cssText = 'position:absolute;inset:0;width:100%;height:100%;pointer-events:none;z-index:2';
    const style = shape('style', {});
    style.textContent = STYLE;
    drawing.append(style, shape('g', {}));
    element.append(drawing);
  }
  return drawing.lastChild;
}
