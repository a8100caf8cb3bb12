// What a session hears from its viewports: the mouse, the camera and brushes.

import { listen } from './pointer.js';
import { BOX, LASSO, SCRIBBLE } from './tools.js';

const DRAWN = { [SCRIBBLE]: true, [LASSO]: true, [BOX]: true }; // tools that draw a line

/** Listen to mouse, camera and brush; what stops it. */
export function hear(session) {
  const { Events } = window.cornerstone.Enums, { Events: Tools } = window.cornerstoneTools.Enums;
  const { eventTarget } = window.cornerstone, { views } = session;
  const draw = () => views.draw(), edited = event => session.heardEdit(event);
  const stopMouse = listen(views, {
    point: (view, world) => {
      views.pointer = { view, world };
      if (!session.pressed) views.activate(view);
      draw();
    },
    press: pressed => (session.pressed = pressed), // a stroke of the brush is one step, however long it takes
    click: (world, erase, view) => session.heardClick(world, erase, view),
    drawn: (view, path) => session.tool in DRAWN && views.drawing({ kind: session.tool, view, path }),
    ended: (view, path, erase) => session.heardLine(view, path, erase),
  });
  const elements = views.all().map(({ element }) => element);
  for (const element of elements) element.addEventListener(Events.CAMERA_MODIFIED, draw);
  eventTarget.addEventListener(Tools.SEGMENTATION_DATA_MODIFIED, edited);
  return () => {
    stopMouse();
    for (const element of elements) element.removeEventListener(Events.CAMERA_MODIFIED, draw);
    eventTarget.removeEventListener(Tools.SEGMENTATION_DATA_MODIFIED, edited);
  };
}
