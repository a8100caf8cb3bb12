// Brightness and contrast to begin with: MRI has no units, and what headers say is often made for one series
// of many. Between the darkest and brightest voxels that are no outliers, background left out.

const SAMPLES = 50_000;
const [DARKEST, BRIGHTEST] = [0.02, 0.995]; // shares of the voxels that show something

/** Lower and upper value of a volume to show; null where it is of one value. */
export function rangeOf(volume) {
  const data = volume.voxelManager.getCompleteScalarDataArray(), step = Math.max(1, Math.floor(data.length / SAMPLES));
  const values = [];
  for (let at = 0; at < data.length; at += step) values.push(data[at]);
  values.sort((one, other) => one - other);
  const floor = values[0] + 0.02 * (values.at(-1) - values[0]), shown = values.filter(value => value > floor);
  if (shown.length < 2) return null;
  const [lower, upper] = [DARKEST, BRIGHTEST].map(share => shown[Math.floor(share * (shown.length - 1))]);
  return upper > lower ? { lower: Math.min(lower, 0.3 * upper), upper } : null;
}
