// The mouse over the viewports: where it points, and clicks that correct. A click is a press and a release at
// one place; nothing waits for a second one.

const STILL = 4; // pixels that a click may move

/**
 * Listen to the mouse over the mode's viewports.
 * @param {Views} views
 * @param {object} told what is called: point(view, world), click(world, erase), press(pressed); world is LPS mm
 * @returns {() => void} stops listening
 */
export function listen(views, told) {
  let pressed = null;
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
  const down = event => {
    told.press(true);
    pressed = event.button === 0 && under(event) ? [event.clientX, event.clientY] : null;
  };
  const up = event => {
    const from = pressed;
    pressed = null;
    told.press(false);
    if (!from || Math.hypot(event.clientX - from[0], event.clientY - from[1]) > STILL) return;
    const at = under(event);
    if (at) told.click(at.world, event.shiftKey);
  };
  const move = event => {
    const at = under(event);
    if (at) told.point(at.view, at.world);
  };
  const heard = { pointerdown: down, pointerup: up, pointercancel: up, pointermove: move };
  for (const [name, act] of Object.entries(heard)) document.addEventListener(name, act, true);
  return () => {
    for (const [name, act] of Object.entries(heard)) document.removeEventListener(name, act, true);
  };
}
