// How long a correction takes, from the mouse to changed pixels: ms since the button was released, by step.

/**
 * Note when viewports have been painted.
 * @param {object[]} views viewports, the one that was clicked first
 * @param {object} spent gets `first`, when that one was painted, and `painted`, when all were
 * @param {number} begin of the clock, as `performance.now` gives it
 * @param {() => void} done is called then
 */
export function notePainted(views, spent, begin, done) {
  const { IMAGE_RENDERED } = window.cornerstone.Enums.Events;
  let left = views.length;
  views.forEach(({ element }, at) => {
    const painted = () => {
      if (at === 0) spent.first = performance.now() - begin;
      if (--left) return;
      spent.painted = performance.now() - begin;
      done();
    };
    element.addEventListener(IMAGE_RENDERED, painted, { once: true });
  });
}
