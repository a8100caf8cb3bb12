// The extension that the mode needs: its panel. OHIF takes it at run time by its address in `app-config.js`.
// Nothing is built: the viewer's own React draws one element of ours, and that is all it has to know of it.

import { PANEL } from './panel.js';

const ID = '@slem/extension-label';

/** What React's `createElement` would give for our element; the viewer does not share its React. */
const panelElement = () => ({
  $$typeof: Symbol.for('react.element'),
  type: PANEL,
  key: null,
  ref: null,
  props: {},
  _owner: null,
});

export default {
  id: ID,
  getPanelModule: () => [
    { name: 'label', iconName: 'tab-segmentation', iconLabel: 'Label', label: 'SLeM Label', component: panelElement },
  ],
};
