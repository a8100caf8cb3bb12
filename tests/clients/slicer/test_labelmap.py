"""Label maps as files: what the server writes is read where it lies, and the other way round."""

import nibabel
import numpy as np
from SLeMLabelLib import labelmap

from slem_app.formats import read_label_file, write_nifti, write_nrrd
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS


def oblique() -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = nibabel.eulerangles.euler2mat(0.2, -0.3, 0.4) * np.array([-1.0, 1.2, 5.0])
    affine[:3, 3] = (40.0, -31.0, 12.5)
    return Grid((20, 24, 12), affine)


def labels(grid: Grid) -> np.ndarray:
    return np.asfortranarray(np.random.default_rng(2).integers(0, 4, grid.shape, np.uint8))


def test_what_the_server_writes_is_read_where_it_lies(tmp_path) -> None:
    grid, array = oblique(), labels(oblique())
    for ending, write in ((".nrrd", write_nrrd), (".nii.gz", write_nifti)):
        path = tmp_path / f"label{ending}"
        write(array, grid, BRAIN_LABELS, path)
        found, matrix = labelmap.read(path.read_bytes(), ending)
        np.testing.assert_array_equal(found.transpose(2, 1, 0), array)
        np.testing.assert_allclose(matrix, grid.affine, atol=1e-4)


def test_the_server_reads_what_is_written(tmp_path) -> None:
    grid, array = oblique(), labels(oblique())
    path = tmp_path / "label.nrrd"
    path.write_bytes(labelmap.write(array.transpose(2, 1, 0), grid.affine))
    found, where, _ = read_label_file(path)
    np.testing.assert_array_equal(found, array)
    assert where.same_as(grid)


def test_grids_that_run_against_each_other_are_told_from_other_places() -> None:
    matrix, shape = oblique().affine, (12, 24, 20)
    assert labelmap.flips(shape, matrix, matrix + 1e-5) == (False, False, False)
    moved = matrix.copy()
    moved[0, 3] += 0.5
    assert labelmap.flips(shape, matrix, moved) is None
    turned = matrix.copy()
    turned[:3, 3] += 11 * turned[:3, 2]
    turned[:3, 2] *= -1  # as Slicer loads a left-handed image
    assert labelmap.flips(shape, matrix, turned) == (False, False, True)
    array = np.arange(12 * 24 * 20).reshape(shape)
    assert labelmap.flipped(array, (False, False, True))[0, 3, 4] == array[11, 3, 4]
    assert labelmap.flipped(array, (True, False, False))[2, 3, 0] == array[2, 3, 19]
