"""Visual words: against a slow definition, what histograms sum to, refusals, files, bits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slow_hog
from lastlayer._arrays import InputError
from lastlayer._threads import single_blas_thread
from lastlayer.representations import from_spec, parse_phi, to_spec
from lastlayer.representations._batches import Scratch, map_batches
from lastlayer.representations.local_descriptors import LocalDescriptors
from lastlayer.representations.words import Words

RNG = np.random.default_rng


def photos(n: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs with noise: descriptors that differ, in colours that differ."""
    rng = RNG(seed)
    coarse = rng.integers(0, 200, (n, -(-height // 4), -(-width // 4), channels))
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return (fine + rng.integers(0, 56, fine.shape)).astype(np.uint8)


def slow_colour_cell(area: np.ndarray) -> np.ndarray:
    x = area.reshape(-1, area.shape[-1]) / 255
    if x.shape[1] == 3:
        r, g, b = x.T
        x = np.stack([(r + g + b) / 3, r - g, (r + g - 2 * b) / 2], axis=1)
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])


def slow_descriptors(image: np.ndarray, of: str, cell: int, step: int, stack: int) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors and middles of one image, grid by grid."""
    rows: list[np.ndarray] = []
    middles: list[tuple[float, float]] = []
    options = {"signed": True, "interpolation": True, "transform_sqrt": False, "block_norm": "L2-Hys"}
    for top in range(0, cell, step):
        for left in range(0, cell, step):
            part = image[top:, left:]
            r, c = part.shape[0] // cell, part.shape[1] // cell
            if r < stack or c < stack:
                continue
            if of == "edges":
                cells = slow_hog.hog(part, 9, (cell, cell), (2, 2), compact=True, root=True, levels=1, **options)
                cells = cells.reshape(r, c, 31)
            else:
                grid = [
                    [part[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell] for j in range(c)] for i in range(r)
                ]
                cells = np.array([[slow_colour_cell(area) for area in line] for line in grid])
            for i in range(r - stack + 1):
                for j in range(c - stack + 1):
                    rows.append(cells[i : i + stack, j : j + stack].ravel())
                    middles.append((top + (i + stack / 2) * cell, left + (j + stack / 2) * cell))
    return np.array(rows), np.array(middles)


def slow_words(phi: Words, image: np.ndarray) -> np.ndarray:
    assert phi.mean is not None and phi.basis is not None and phi.centres is not None
    x, middles = slow_descriptors(image, phi.of, phi.cell, phi.step, phi.stack)
    w = (x - phi.mean) @ phi.basis.astype(float)
    u = w / np.sqrt((w**2).sum(axis=1, keepdims=True) + w.shape[1] / 100)
    distance = np.linalg.norm(u[:, None] - phi.centres.astype(float), axis=2)
    if phi.encoding == "hard":
        code = np.eye(phi.words)[distance.argmin(axis=1)]
    else:
        code = np.maximum(0, distance.mean(axis=1, keepdims=True) - distance)
    parts, grid = [], phi.grid
    while True:
        place = np.floor(middles / image.shape[:2] * grid).astype(int)
        for i in range(grid):
            for j in range(grid):
                parts.append(code[(place == (i, j)).all(axis=1)].sum(axis=0) / len(x))
        if not phi.pyramid or grid == 1:
            break
        grid //= 2
    features = np.concatenate(parts)
    return np.sqrt(features) if phi.root else features


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("of", "cell", "step", "stack"), [("edges", 4, 2, 2), ("colour", 3, 1, 2), ("colour", 5, 5, 1)]
)
def test_descriptors_are_their_definition(channels: int, of: str, cell: int, step: int, stack: int) -> None:
    images = photos(3, 13, 17, channels)
    images[0, :, :9] = 77
    local = LocalDescriptors(of, cell, step, stack, 13, 17, channels)
    got = local(images, Scratch())
    assert got.shape == (3, len(local.middles()), local.numbers)
    for image, rows in zip(images, got):
        expected, middles = slow_descriptors(image, of, cell, step, stack)
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(local.middles(), middles)


def test_flat_cells_have_no_spread() -> None:
    images = np.broadcast_to(np.array([201, 3, 77], np.uint8), (2, 8, 8, 3))
    cells = LocalDescriptors("colour", 4, 4, 1, 8, 8, 3)(images, Scratch())
    np.testing.assert_array_equal(cells[..., 3:], 0)
    np.testing.assert_allclose(cells[0, 0, :3], [281 / 765, 198 / 255, 50 / 510], rtol=1e-6)


@pytest.mark.parametrize("encoding", ["hard", "triangle"])
@pytest.mark.parametrize(("of", "channels"), [("edges", 1), ("edges", 3), ("colour", 3)])
def test_words_are_their_definition(encoding: str, of: str, channels: int) -> None:
    images = photos(12, 16, 14, channels, seed=1)
    for pyramid, root, grid in ((False, False, 3), (True, True, 2)):
        phi = Words(7, of, cell=4, encoding=encoding, grid=grid, pyramid=pyramid, root=root).fit(images, RNG(0))
        Z = phi.transform(images)
        assert Z.shape == (12, phi.n_features)
        expected = np.array([slow_words(phi, image) for image in images])
        np.testing.assert_allclose(Z, expected, atol=2e-3 if root else 1e-5)


def test_hard_histograms_sum_to_one_on_every_level() -> None:
    images = photos(9, 24, 24, 3)
    Z = Words(11, cell=4, encoding="hard", grid=4, pyramid=True).fit(images, RNG(0)).transform(images)
    levels = np.split(Z, [16 * 11, 20 * 11], axis=1)
    for level in levels:
        np.testing.assert_allclose(level.sum(axis=1), 1, rtol=1e-5)
    fine, middle, coarse = (level.reshape(9, -1, 11) for level in levels)
    np.testing.assert_allclose(middle.sum(axis=1), coarse[:, 0], atol=1e-6)
    np.testing.assert_allclose(fine.reshape(9, 4, 4, 11)[:, :2, :2].sum(axis=(1, 2)), middle[:, 0], atol=1e-6)
    root = Words(11, cell=4, encoding="hard", grid=4, pyramid=True, root=True).fit(images, RNG(0)).transform(images)
    np.testing.assert_allclose(root**2, Z, atol=1e-6)


def test_regions_tell_where_a_pattern_is() -> None:
    images = photos(20, 16, 32, 1)
    images[:, :, :24] = 60  # nothing to see from the left to behind the middle
    phi = Words(8, cell=4, step=4, encoding="hard").fit(images, RNG(0))
    left, right = phi.transform(images).reshape(20, 2, 2, 8).sum(axis=1).transpose(1, 0, 2)
    assert (left.max(axis=1) > 0.99 * left.sum(axis=1)).all()  # one word
    assert (right > 0).sum(axis=1).min() > 1


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    st.integers(9, 20),
    st.integers(9, 20),
    st.sampled_from([1, 3]),
    st.sampled_from(["edges", "colour"]),
    st.sampled_from(["hard", "triangle"]),
    st.integers(1, 3),
)
def test_a_row_depends_on_its_image_alone(h: int, w: int, channels: int, of: str, encoding: str, step: int) -> None:
    images = photos(21, h, w, channels, seed=h)
    phi = Words(6, of, 3, step, encoding=encoding).fit(images, RNG(0))
    Z = phi.transform(images)
    assert Z.dtype == np.float32
    assert Z.flags.c_contiguous
    assert (Z >= 0).all()
    for rows in ([0], [20], [2, 5], [16, 1, 3]):
        np.testing.assert_array_equal(phi.transform(images[rows]), Z[rows])
    with single_blas_thread():
        for batch, threads in ((1, 3), (5, 1), (100, 2)):
            np.testing.assert_array_equal(map_batches(phi._encoder(), images, phi.n_features, batch, threads), Z)


def test_the_seed_decides() -> None:
    images = photos(30, 16, 16, 3)
    first, again, other = (Words(9).fit(images, RNG(seed)).transform(images) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_files_bring_it_back() -> None:
    images = photos(20, 16, 16, 3)
    phi = parse_phi("words:9,of=colour,grid=1").fit(images, RNG(0))
    spec = json.loads(json.dumps(to_spec(phi)))
    back = from_spec(spec, {name: array.copy() for name, array in phi.arrays().items()})
    np.testing.assert_array_equal(back.transform(images), phi.transform(images))
    assert back.describe() == phi.describe()
    for broken in ("mean", "basis", "centres"):
        arrays = dict(phi.arrays())
        arrays[broken] = arrays[broken][:-1]
        with pytest.raises(InputError, match=broken):
            from_spec(spec, arrays)
        arrays[broken] = np.full_like(phi.arrays()[broken], np.nan)
        with pytest.raises(InputError, match=broken):
            from_spec(spec, arrays)


def test_cells_follow_the_image_size() -> None:
    assert Words(4).fit(photos(9, 32, 32, 1), RNG(0)).parameters()["cell"] == 4
    large = Words(4).fit(photos(3, 100, 64, 1), RNG(0))
    assert (large.cell, large.step) == (16, 8)
    assert "in 32x32 pixels every 8" in large.describe()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"words": 1}, "words is 1"),
        ({"of": "sounds"}, "edges, colour"),
        ({"cell": 2, "step": 3}, "more than a cell"),
        ({"step": 0}, "step"),
        ({"stack": 0}, "stack"),
        ({"encoding": "soft"}, "triangle, hard"),
        ({"grid": 3, "pyramid": True}, "1, 2, 4, 8"),
        ({"whiten": 0}, "whiten"),
        ({"whiten": True}, "whiten"),
        ({"root": 1}, "root"),
        ({"image_shape": (8, 8, 1)}, "without the cell"),
        ({"image_shape": (8, 8, 1), "cell": 2, "step": 1}, "mean is no finite"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Words(**parameters)


def test_images_that_will_not_do_are_refused() -> None:
    with pytest.raises(InputError, match="8x8 pixels in each of 2x2 regions"):
        Words(4, cell=4).fit(photos(3, 8, 30, 1), RNG(0))
    with pytest.raises(InputError, match="in each of"):
        Words(4).fit(np.zeros((1, 1, 1, 3), np.uint8), RNG(0))
    with pytest.raises(InputError, match="alike"):
        Words(4).fit(np.full((3, 16, 16, 3), 9, np.uint8), RNG(0))
    with pytest.raises(InputError, match=r"fewer than 5000 words. Give more images, or words=\d+"):
        Words(5000).fit(photos(2, 16, 16, 3), RNG(0))
    with pytest.raises(InputError, match="not fitted"):
        Words(4).transform(photos(2, 16, 16, 3))
    with pytest.raises(InputError, match="met images"):
        Words(4).fit(photos(5, 16, 16, 3), RNG(0)).transform(photos(2, 16, 20, 3))


def test_pictures_show_the_edges_of_the_words() -> None:
    step = np.full((8, 16, 16, 1), 20, np.uint8)
    for i, image in enumerate(step):  # vertical edges, from dark to light, at different places
        image[:, 4 + i :] = 200 + i
    phi = Words(2, cell=8, step=4, stack=1, grid=1, encoding="hard").fit(step, RNG(0))
    W = np.ones((phi.n_features, 2))
    W[:, 1] = -1
    (template,) = phi.templates(W)
    assert template.images.shape[0] == 2
    ink = 1 - template.images[0][:, : template.images.shape[1]].mean(axis=2)
    columns, rows = ink.sum(axis=0), ink.sum(axis=1)
    assert columns.std() > 2 * rows.std()
    assert Words(2, "colour").fit(photos(5, 16, 16, 3), RNG(0)).templates(np.ones((8, 2))) == ()
    with pytest.raises(InputError, match="weights of words"):
        phi.templates(W[:-1])
