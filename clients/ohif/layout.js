// Which sequence hangs where: a viewport for each that the server has found, in the order in which the model
// knows them; four are two by two. All scroll, pan and zoom together, for they share one camera.

export const PROTOCOL = 'slem-label';
export const TOOLS = 'slem-label';
export const MOST = 6; // viewports; further series are in the list on the left

/** Rows and columns of so many viewports. */
export function gridOf(count) {
  const columns = count < 2 ? 1 : count < 5 ? 2 : 3;
  return { rows: Math.ceil(count / columns), columns };
}

export const viewportId = sequence => `slem-${sequence}`;

/** The anatomical plane nearest to that of a series' slices: 'axial', 'coronal' or 'sagittal'. */
export function planeOf(affine) {
  const normal = [0, 1, 2].map(row => Math.abs(affine[row][2])), most = normal.indexOf(Math.max(...normal));
  return ['sagittal', 'coronal', 'axial'][most];
}

function viewportOf({ name }, orientation) {
  return {
    viewportOptions: {
      viewportId: viewportId(name),
      viewportType: 'volume',
      orientation,
      toolGroupId: TOOLS,
      initialImageOptions: { preset: 'middle' },
      syncGroups: [{ type: 'cameraPosition', id: 'slem-camera', source: true, target: true }],
    },
    displaySets: [{ id: name }],
  };
}

/** OHIF's hanging protocol of a case (its docs: "Hanging Protocol"). */
export function protocolOf(info) {
  const shown = info.sequences.slice(0, MOST), selectors = {};
  for (const { name, series } of shown) {
    const constraint = { equals: { value: series } };
    selectors[name] = {
      seriesMatchingRules: [{ attribute: 'SeriesInstanceUID', weight: 1, required: true, constraint }],
    };
  }
  const orientation = planeOf(info.grid.affine);
  return {
    id: PROTOCOL,
    name: 'SLeM Label',
    protocolMatchingRules: [],
    displaySetSelectors: selectors,
    numberOfPriorsReferenced: 0,
    stages: [
      {
        name: 'Sequences',
        viewportStructure: { layoutType: 'grid', properties: gridOf(shown.length) },
        viewports: shown.map(sequence => viewportOf(sequence, orientation)),
      },
    ],
  };
}
