"""Concatenation, standardisation, the text and JSON forms, and what hostile specifications meet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastlayer._arrays import InputError
from lastlayer.representations import (
    Colour,
    Concatenate,
    Hog,
    Pixels,
    Standardised,
    code_version,
    from_spec,
    parse_phi,
    to_spec,
)
from lastlayer.representations import _batches as batches

RNG = np.random.default_rng


def noise(n: int = 12, side: int = 8, channels: int = 3) -> np.ndarray:
    return RNG(3).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def test_a_sum_of_representations_is_their_features_side_by_side() -> None:
    images = noise()
    both = parse_phi("pixels:size=4+colour").fit(images, RNG(0))
    Z = both.transform(images)
    a, b = Pixels(size=4).fit(images, RNG(0)), Colour().fit(images, RNG(0))
    np.testing.assert_array_equal(Z, np.hstack([a.transform(images), b.transform(images)]))
    assert both.n_features == a.n_features + b.n_features
    assert both.image_shape == (8, 8, 3)
    W = RNG(1).normal(size=(both.n_features, 3))
    templates = both.templates(W)
    assert [t.kind for t in templates] == ["pixels", "colour"]
    np.testing.assert_array_equal(templates[1].images, b.templates(W[a.n_features :])[0].images)
    with pytest.raises(InputError, match="two or more"):
        Concatenate((Pixels(),))


def test_standardised_features_have_mean_zero_and_variance_one() -> None:
    images = noise(50)
    images[:, 0, 0, 0] = 7  # a constant column
    phi = Standardised(Pixels()).fit(images, RNG(0))
    Z = phi.transform(images)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(Z[:, 1:].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(Z[:, 0], 0)
    assert phi.scale[0] == 1
    raw = phi.base.transform(images)
    np.testing.assert_array_equal(phi.apply(raw), Z)
    np.testing.assert_array_equal(phi.transform(images[7:8])[0], Z[7])
    assert raw.min() >= 0  # apply left its argument alone
    other = Standardised.from_features(phi.base, raw)
    np.testing.assert_array_equal(other.mean, phi.mean)


def test_statistics_survive_a_large_offset_and_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from lastlayer.representations import standardise

    images = noise(200, 3, 1)
    base = Pixels().fit(images, RNG(0))
    Z = (1000 + base.transform(images)).astype(np.float32)
    monkeypatch.setattr(standardise, "_BLOCK_NUMBERS", 9 * 17)
    phi = Standardised.from_features(base, Z)
    np.testing.assert_allclose(phi.scale, Z.astype(np.float64).std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(phi.mean, Z.astype(np.float64).mean(axis=0), rtol=1e-7)


@pytest.mark.parametrize("value", [0.1, 1e-30, 3.3e38, 1 / 3])
def test_constant_columns_become_zero_whatever_their_value(value: float) -> None:
    base = Pixels().fit(noise(1, 1), RNG(0))
    Z = np.full((1003, 1), value, np.float32)
    phi = Standardised.from_features(base, np.hstack([Z, Z, Z + np.eye(1003, 1, dtype=np.float32)])[:, :3])
    np.testing.assert_array_equal(phi.scale[:2], 1)
    np.testing.assert_array_equal(phi.apply(np.hstack([Z, Z, Z]))[:, :2], 0)


def test_standardised_templates_show_the_weight_of_one_standard_deviation() -> None:
    """A pixel that hardly moves has a huge raw weight and no say: it must not bleach the picture."""
    images = noise(40, 4, 1)
    images[:, 0, 0] = 9
    images[3, 0, 0] = 10
    phi = Standardised(Pixels()).fit(images, RNG(0))
    W = RNG(0).normal(size=(16, 2))
    (shown,) = phi.templates(W)
    np.testing.assert_array_equal(shown.images, phi.base.templates(W)[0].images)
    assert "per standard deviation" in shown.note
    with pytest.raises(InputError, match="weights of standardised"):
        phi.templates(W[:3])


def test_fit_takes_rows_of_a_memory_map(tmp_path: Path) -> None:
    images = noise(30)
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    phi = Standardised(parse_phi("hog+colour"))
    a, b = phi.fit(images[:20], RNG(0)), phi.fit(mapped[:20], RNG(0))
    np.testing.assert_array_equal(a.transform(images), b.transform(mapped))
    assert mapped.tobytes() == images.tobytes()


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(300)
    phi = Standardised(parse_phi("hog+colour+pixels")).fit(images, RNG(0))
    outcomes = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(batches, "thread_count", lambda threads=threads: threads)
        outcomes.append(phi.transform(images))
    for Z in outcomes[1:]:
        np.testing.assert_array_equal(Z, outcomes[0])


def test_an_error_in_a_batch_ends_the_work() -> None:
    seen = []

    def kernel(images: np.ndarray, scratch: batches.Scratch) -> np.ndarray:
        seen.append(1)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        batches.map_batches(kernel, noise(1000), 3, 8, threads=3)
    assert len(seen) <= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pixels", Pixels()),
        (" Pixels : size=16 , color=gray ", Pixels(16, "gray")),
        ("raw", Pixels()),
        ("hog:cell=4,bins=12,block=3", Hog(12, 4, 3)),
        ("hog:cell=4x8,norm=L1,root=no,signed=False", Hog(9, (4, 8), block_norm="L1", root=False, signed=False)),
        ("hog:pixels_per_cell=none", Hog()),
        ("color:space=lab,bins=12", Colour("lab", 12)),
        ("hog+colour", Concatenate((Hog(), Colour()))),
        ("hog:cell=4+hog:cell=8+pixels:size=8", Concatenate((Hog(9, 4), Hog(9, 8), Pixels(8)))),
    ],
)
def test_texts(text: str, expected: object) -> None:
    assert parse_phi(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hgo", "'hgo' is unknown.*Did you mean 'hog'"),
        ("", "'' is unknown"),
        ("hog+", "'' is unknown"),
        ("resnet", "is unknown; there are pixels, hog, colour"),
        ("hog:cel=4", "no parameter 'cel'.*Did you mean 'cell'"),
        ("hog:image_shape=4", "no parameter 'image_shape'"),
        ("hog:cell", "cell has no value"),
        ("hog:cell=", "cell has no value"),
        ("hog:cell=4,pixels_per_cell=8", "given twice"),
        ("hog:cell=4.5", "pixels_per_cell is 4.5"),
        ("hog:cell=99999999999", "pixels_per_cell is"),
        ("hog:cell=-4", "pixels_per_cell is -4"),
        ("hog:cell=nan", "pixels_per_cell is nan"),
        ("hog:signed=maybe", "signed is 'maybe'; true or false"),
        ("hog:norm=L3", "block_norm is 'L3'; one of L1"),
        ("pixels:size=big", "size is 'big'"),
        ("colour:bins=1", "bins is 1; a whole number from 2"),
    ],
)
def test_faulty_texts_are_refused_with_the_mend(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_phi(text)


@pytest.mark.parametrize("text", ["pixels", "pixels:size=4,color=gray", "hog", "colour:space=lab", "hog+colour+pixels"])
@pytest.mark.parametrize("standardised", [False, True])
def test_specifications_survive_json(text: str, standardised: bool) -> None:
    images = noise()
    phi = parse_phi(text)
    assert to_spec(from_spec(json.loads(json.dumps(to_spec(phi))), {})) == to_spec(phi)
    if standardised:
        phi = Standardised(phi)
    phi = phi.fit(images, RNG(0))
    spec = json.loads(json.dumps(to_spec(phi)))
    again = from_spec(spec, phi.arrays())
    assert to_spec(again) == to_spec(phi)
    assert again.describe() == phi.describe()
    np.testing.assert_array_equal(again.transform(images), phi.transform(images))
    for name, array in phi.arrays().items():
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.")
        np.testing.assert_array_equal(again.arrays()[name], array)


def standardised_parts() -> tuple[dict, dict]:
    phi = Standardised(parse_phi("hog+colour")).fit(noise(), RNG(0))
    return json.loads(json.dumps(to_spec(phi))), phi.arrays()


def test_damaged_arrays_are_refused() -> None:
    spec, arrays = standardised_parts()
    scale = arrays["scale"]
    broken = [
        {},
        {"mean": arrays["mean"]},
        {**arrays, "extra": scale},
        {**arrays, "scale": scale[:-1]},
        {**arrays, "scale": -scale},
        {**arrays, "scale": scale * 0},
        {**arrays, "scale": scale.astype(np.float64)},
        {**arrays, "mean": scale * np.float32(np.nan)},
    ]
    for damaged in broken:
        with pytest.raises(InputError):
            from_spec(spec, damaged).transform(noise())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats() | st.text(max_size=5) | st.just("hog"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_mutated_specifications_give_one_kind_of_error(data: st.DataObject) -> None:
    spec, arrays = standardised_parts()
    node, route = spec, []
    while True:  # walk to a random node and replace it
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        route.append(key)
        if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(JSON)
        break
    try:
        phi = from_spec(spec, arrays)
        assert phi.n_features > 0
    except InputError:
        pass


def test_specifications_nested_without_end_are_refused() -> None:
    spec = to_spec(Pixels())
    for _ in range(2000):
        spec = {"name": "standardised", "parameters": {}, "image_shape": None, "parts": [spec]}
    with pytest.raises(InputError, match="too many parts"):
        from_spec(spec, {})


def test_the_code_version_names_the_representation_and_its_code() -> None:
    assert code_version(Hog()).startswith("hog-")
    assert code_version(Hog()) == code_version(Hog(levels=1)) != code_version(Pixels())


def test_unfitted_things_say_so() -> None:
    for phi in (Hog(), Colour(), Pixels(), parse_phi("hog+colour"), Standardised(Hog())):
        with pytest.raises(InputError, match="not fitted"):
            phi.transform(noise())
    with pytest.raises(InputError, match="not fitted"):
        Standardised(Pixels(image_shape=(8, 8, 3))).transform(noise())
