// The mouse over the viewports: where it points, clicks, and lines that are drawn. A click is a press and a
// release at one place; nothing waits for a second one.

const STILL = 4; // pixels that a click may move

/**
 * Listen to the mouse over the mode's viewports.
 * @param {Views} views
 * @param {object} told what is called: point(view, world), press(pressed), click(world, shift, view), and of a
 *   line drawn(view, path) while it grows and ended(view, path, shift); world is LPS mm, path a list of it
 * @returns {() => void} stops listening
 */
export function listen(views, told) {
  let stroke = null;
  const under = ({ target, clientX, clientY }) => {
    for (const view of views.all()) {
      const { element } = view, box = element.getBoundingClientRect(), x = clientX - box.x, y = clientY - box.y;
      // OHIF hides viewports that are not active from the mouse: their frame is what is hit there
      const hit = element.contains(target) || target.contains(element);
      if (hit && x >= 0 && y >= 0 && x < box.width && y < box.height)
        return { view, world: [...view.canvasToWorld([x, y])] };
    }
    return null;
  };
  const within = (view, { clientX, clientY }) => {
    const box = view.element.getBoundingClientRect();
    return [...view.canvasToWorld([clientX - box.x, clientY - box.y])];
  };
  const down = event => {
    told.press(true);
    const at = event.button === 0 && under(event);
    stroke = at ? { view: at.view, path: [at.world], from: [event.clientX, event.clientY], far: false } : null;
  };
  const move = event => {
    const at = under(event);
    if (at) told.point(at.view, at.world);
    if (!stroke) return;
    stroke.path.push(within(stroke.view, event));
    stroke.far ||= Math.hypot(event.clientX - stroke.from[0], event.clientY - stroke.from[1]) > STILL;
    if (stroke.far) told.drawn(stroke.view, stroke.path);
  };
  const up = event => {
    const ended = stroke;
    stroke = null;
    told.press(false);
    if (!ended) return;
    if (ended.far) told.ended(ended.view, ended.path, event.shiftKey);
    else told.click(ended.path[0], event.shiftKey, ended.view);
  };
  const cancel = () => {
    stroke = null;
    told.press(false);
  };
  const heard = { pointerdown: down, pointerup: up, pointercancel: cancel, pointermove: move };
  for (const [name, act] of Object.entries(heard)) document.addEventListener(name, act, true);
  return () => {
    for (const [name, act] of Object.entries(heard)) document.removeEventListener(name, act, true);
  };
}
