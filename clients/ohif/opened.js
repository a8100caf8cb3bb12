// The study that is open: one at a time.

import * as server from './server.js';
import { Session } from './session.js';

let current = null;

/** The session that is open; null: none. */
export const session = () => current;

/** Begin with a study; its `info` is missing, and `problem` says why, where the server cannot use it. */
export async function openSession(study, services) {
  closeSession();
  current = new Session(services);
  window.slem = current; // for tests, and for whoever looks into a console
  try {
    current.info = await server.fetchCase(study);
    current.begin();
  } catch (error) {
    current.busy = '';
    current.problem = error.message;
  }
  document.dispatchEvent(new Event('slem-session'));
  return current;
}

export function closeSession() {
  current?.close();
  current = null;
}
