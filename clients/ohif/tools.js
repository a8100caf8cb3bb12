// The mouse: what each button and the wheel do. One tool has the left button; clicks, scribbles, lassos and
// boxes are no tools of cornerstone's, which wait 400 ms for a second click: the mode listens to the mouse itself (`pointer.js`).

import { TOOLS } from './layout.js';

export const CLICK = 'click';
export const SCRIBBLE = 'scribble';
export const LASSO = 'lasso';
export const BOX = 'box';
export const BRUSH = 'SlemBrush';
export const ERASER = 'SlemEraser';
export const WINDOW = 'WindowLevel';

const BRUSHES = { [BRUSH]: 'FILL_INSIDE_CIRCLE', [ERASER]: 'ERASE_INSIDE_CIRCLE' };

/** Make the tool group of the mode's viewports. */
export function addTools({ toolGroupService }) {
  const { MouseBindings } = window.cornerstoneTools.Enums;
  toolGroupService.createToolGroupAndAddTools(TOOLS, {
    active: [
      { toolName: 'StackScroll', bindings: [{ mouseButton: MouseBindings.Wheel }] },
      { toolName: 'Pan', bindings: [{ mouseButton: MouseBindings.Auxiliary }] },
      { toolName: 'Zoom', bindings: [{ mouseButton: MouseBindings.Secondary }] },
    ],
    passive: [{ toolName: WINDOW }],
    enabled: [],
    disabled: [],
  });
  const group = window.cornerstoneTools.ToolGroupManager.getToolGroup(TOOLS);
  for (const [name, activeStrategy] of Object.entries(BRUSHES))
    group.addToolInstance(name, window.cornerstoneTools.BrushTool.toolName, { activeStrategy });
}

/** Give the left mouse button to a tool; clicks, scribbles, lassos and boxes leave it to the mode. */
export function chooseTool(tool) {
  const group = window.cornerstoneTools.ToolGroupManager.getToolGroup(TOOLS);
  const { MouseBindings } = window.cornerstoneTools.Enums;
  for (const name of [WINDOW, BRUSH, ERASER]) {
    if (name === tool) group.setToolActive(name, { bindings: [{ mouseButton: MouseBindings.Primary }] });
    else if (name === WINDOW) group.setToolPassive(name, { removeAllBindings: true });
    else group.setToolDisabled(name);
  }
}

/** Radius of brush and eraser, mm. */
export function setBrushRadius(radius) {
  window.cornerstoneTools.utilities.segmentation.setBrushSizeForToolGroup(TOOLS, radius);
}
