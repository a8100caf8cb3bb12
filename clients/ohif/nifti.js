// Label maps as NIfTI-1 files, read and written: what the server sends, keeps and takes.
// Source: nifti1.h (NIfTI Data Format Working Group); data of one byte a voxel, the sform alone.

const HEADER = 352;
const UINT8 = 2;
const SFORM = 280; // offset of srow_x, three rows of four float32

/** The bytes of a stream through a (de)compressor of the browser. */
async function piped(bytes, transform) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());
}

/**
 * A label map from a file.
 * @param {ArrayBuffer} buffer .nii or .nii.gz
 * @returns {Promise<{size: number[], affine: number[][], data: Uint8Array}>} voxels, first axis fastest;
 *   affine from voxel to RAS mm, three rows
 */
export async function readLabel(buffer) {
  let bytes = new Uint8Array(buffer);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await piped(bytes, new DecompressionStream('gzip'));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER || view.getInt32(0, true) !== 348)
    throw new Error('The label map that came is not a NIfTI file.');
  const type = view.getInt16(70, true);
  if (type !== UINT8) throw new Error(`The label map that came has voxels of type ${type}: bytes were expected.`);
  const size = [1, 2, 3].map(axis => view.getInt16(40 + 2 * axis, true));
  const affine = [0, 1, 2].map(row => [0, 1, 2, 3].map(
    column => view.getFloat32(SFORM + 16 * row + 4 * column, true)));
  const begin = view.getFloat32(108, true), count = size[0] * size[1] * size[2];
  return { size, affine, data: bytes.slice(begin, begin + count) };
}

/**
 * A label map as a compressed file.
 * @param {{size: number[], affine: number[][], data: Uint8Array}} label as `readLabel` gives it
 * @returns {Promise<Blob>} .nii.gz
 */
export async function writeLabel({ size, affine, data }) {
  const bytes = new Uint8Array(HEADER + data.length), view = new DataView(bytes.buffer);
  view.setInt32(0, 348, true);
  [3, ...size, 1, 1, 1, 1].forEach((value, place) => view.setInt16(40 + 2 * place, value, true));
  view.setInt16(70, UINT8, true);
  view.setInt16(72, 8, true); // bits a voxel
  const spacing = [0, 1, 2].map(axis => Math.hypot(...affine.map(row => row[axis])));
  [1, ...spacing].forEach((value, place) => view.setFloat32(76 + 4 * place, value, true));
  view.setFloat32(108, HEADER, true);
  view.setFloat32(112, 1, true); // slope
  view.setUint8(123, 2); // mm
  view.setInt16(254, 1, true); // sform_code: scanner
  affine.flat().forEach((value, place) => view.setFloat32(SFORM + 4 * place, value, true));
  bytes.set([0x6e, 0x2b, 0x31, 0], 344); // n+1
  bytes.set(data, HEADER);
  return new Blob([await piped(bytes, new CompressionStream('gzip'))], { type: 'application/gzip' });
}
