// The mode "SLeM Label": /ohif/slem-label?StudyInstanceUIDs=UID.

import { PROTOCOL, protocolOf } from './layout.js';
import { closeSession, openSession } from './opened.js';
import { addTools } from './tools.js';

const ID = '@slem/mode-label';
const STACK = '@ohif/extension-default.sopClassHandlerModule.stack';
const VERSIONS = '^3.0.0';

/** Ask the server about the study before anything hangs: it knows which series is which sequence. */
async function layoutTemplate({ servicesManager, studyInstanceUIDs }) {
  const session = await openSession(studyInstanceUIDs[0], servicesManager.services);
  if (session.info)
    servicesManager.services.hangingProtocolService.addProtocol(PROTOCOL, protocolOf(session.info));
  return {
    id: '@ohif/extension-default.layoutTemplateModule.viewerLayout',
    props: {
      leftPanels: ['@ohif/extension-default.panelModule.seriesList'],
      leftPanelClosed: true,
      rightPanels: ['@slem/extension-label.panelModule.label'],
      viewports: [
        {
          namespace: '@ohif/extension-cornerstone.viewportModule.cornerstone',
          displaySetsToDisplay: [STACK],
        },
      ],
    },
  };
}

export default {
  id: ID,
  modeFactory: () => ({
    id: ID,
    routeName: 'slem-label',
    displayName: 'SLeM Label',
    isValidMode: ({ modalities }) => ({
      valid: modalities.split('\\').includes('MR'),
      description: 'SLeM Label segments MRI.',
    }),
    validationTags: { study: [], series: [] },
    routes: [{ path: 'template', layoutTemplate }],
    // Ours is registered by `app-config.js`; OHIF would look for it by this name on the network.
    extensions: {
      '@ohif/extension-default': VERSIONS,
      '@ohif/extension-cornerstone': VERSIONS,
    },
    hangingProtocol: PROTOCOL,
    sopClassHandlers: [STACK],
    hotkeys: [],
    onModeEnter: ({ servicesManager }) => addTools(servicesManager.services),
    onModeExit: ({ servicesManager }) => {
      const { services } = servicesManager;
      closeSession();
      services.toolGroupService.destroy();
      services.syncGroupService.destroy();
      services.segmentationService.destroy();
      services.cornerstoneViewportService.destroy();
    },
  }),
};
