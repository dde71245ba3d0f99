"""Chains of steps, a representation and maps: their text, their JSON form, the model file, and training with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lastlayer
from lastlayer._arrays import InputError
from lastlayer.cli.app import run
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model
from lastlayer.representations import Standardised, chain, from_spec, parse_phi, to_spec
from lastlayer.representations.blur import Blur
from lastlayer.representations.chain import Chain
from lastlayer.representations.concatenate import Concatenate
from lastlayer.representations.deskew import Deskew
from lastlayer.representations.grammar import base_names
from lastlayer.representations.hog import Hog
from lastlayer.representations.monomials import Monomials
from lastlayer.representations.nystrom_features import NystromFeatures
from lastlayer.representations.pca import PCA
from lastlayer.representations.pixels import Pixels
from lastlayer.representations.power import Power
from lastlayer.representations.products import Products
from lastlayer.representations.registry import BASES, MAIN, MAPS, OTHER_NAMES, SHORT, STEPS, typed
from lastlayer.representations.unit_length import UnitLength

RNG = np.random.default_rng
TEXTS = [
    "deskew/pixels",
    "pixels/pca:5/poly:2",
    "deskew/blur:0.7/resize:9/pixels/pca:6,whiten=true/rff:40/power:0.7",
    "pixels/zca:eps=0.1/l2",
    "crop:1/products:1/pca:0.5",
    "median/hog/nystrom:20,kernel=poly+contrast/colour/sqrt+pixels:size=4",
    "pixels/rbf:12",
]


def noise(n: int = 60, side: int = 12, channels: int = 3) -> np.ndarray:
    return RNG(3).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def fitted(text: str, channels: int = 3):
    return parse_phi(text).fit(noise(channels=channels), RNG(0))


# --------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "steps", "base", "maps"),
    [
        ("deskew/pixels", "(Deskew(),)", Pixels(), "()"),
        (" Deskew / raw : size=8 / PCA : 40 ", "(Deskew(),)", Pixels(8), "(PCA(40),)"),
        ("blur:2/hog/quadratic", "(Blur(2.0),)", Hog(), "(Monomials(2),)"),
        ("pixels/quadratic:gamma=0.5/normalise", "()", Pixels(), "(Monomials(2, 0.5), UnitLength())"),
        ("pixels/pca:40,whiten=yes/sqrt", "()", Pixels(), "(PCA(40, True), Power(0.5))"),
        ("pixels/nystrom:n=50,kernel=poly", "()", Pixels(), "(NystromFeatures(50, 'poly'),)"),
        ("deskew:white/blur:sigma=2/products:1", "(Deskew('white'), Blur(2.0))", Products(1), "()"),
    ],
)
def test_texts(text: str, steps: str, base: object, maps: str) -> None:
    phi = parse_phi(text)
    names = [Deskew, Blur, PCA, Power, Monomials, NystromFeatures, UnitLength]
    scope = {kind.__name__: kind for kind in names}
    assert isinstance(phi, Chain) and phi.base == base
    for got, expected in ((phi.steps, steps), (phi.maps, maps)):
        assert repr(got) == repr(eval(expected, scope))


def test_plus_joins_whole_chains() -> None:
    phi = parse_phi("deskew/hog+pixels")
    assert isinstance(phi, Concatenate)
    assert isinstance(phi.parts[0], Chain) and phi.parts[1] == Pixels()
    images = noise()
    both = phi.fit(images, RNG(0)).transform(images)
    apart = [parse_phi(text).fit(images, RNG(0)).transform(images) for text in ("deskew/hog", "pixels")]
    np.testing.assert_array_equal(both, np.hstack(apart))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deskw/pixels", "'deskw' is unknown.*Did you mean 'deskew'"),
        ("pixels/pac:4", "'pac' is unknown.*Did you mean 'pca'"),
        ("deskew/pixles", "'pixles' is unknown.*Did you mean 'pixels'"),
        ("pixels/", "'' is unknown"),
        ("pca:40/pixels", "pca maps features, and stands where a step on images belongs.*pixels/pca"),
        ("pixels/deskew", "deskew is a step on images, and stands behind the representation.*deskew/pixels"),
        ("deskew", "deskew has no representation, only step deskew.*deskew/pixels"),
        ("pca:40", "only feature map pca.*pixels/pca"),
        ("deskew/blur/pca:4/sqrt", "steps deskew, blur and feature maps pca, power.*deskew/blur/pixels/pca/power"),
        ("hog/pixels", "has 2 representations.*Join them with"),
        ("blur:2,3/pixels", "blur has no parameter '3'"),
        ("blur:sgima=2/pixels", "blur has no parameter 'sgima'.*Did you mean 'sigma'"),
        ("pixels/pca:40,n=30", "n is given twice"),
        ("pixels/pca:mean=3", "pca has no parameter 'mean'; it has n, whiten"),
        ("pixels/l2:3", "l2 has no parameter '3'; it has none"),
        ("pixels:image_shape=3", "no parameter 'image_shape'"),
        ("pixels/rff:7", "rff: n is 7; an even number"),
        ("pixels/quadratic:3", "poly has no parameter '3'"),
    ],
)
def test_faulty_texts_are_refused_with_the_mend(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_phi(text)


def test_the_tables_agree_with_each_other() -> None:
    names = [*STEPS, *BASES, *MAPS]
    assert len(set(names)) == len(names)
    for name, main in MAIN.items():
        assert main in typed(name), name
    for name, short in SHORT.items():
        assert set(short.values()) <= set(typed(name))
    for other, name in OTHER_NAMES.items():
        assert other not in names and name.partition(":")[0] in names
    for table in (STEPS, MAPS):
        for name, kind in table.items():
            assert kind.name == name and kind().name == name


def test_a_file_keeps_its_slashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base that is named by a file reads the rest of its term by itself."""
    from lastlayer.representations import registry

    seen = []
    monkeypatch.setitem(registry.BASES, "file", lambda **given: seen.append(given) or Pixels())
    monkeypatch.setitem(registry.FILES, "file", lambda text: {"path": text})
    phi = parse_phi("deskew/file:/a/b=c,d/pca.onnx#x:size=4+hog")
    assert seen == [{"path": "/a/b=c,d/pca.onnx#x:size=4"}]
    assert isinstance(phi.parts[0], Chain) and phi.parts[0].maps == ()
    assert base_names("deskew/file:/a/pixels/pca+raw/pca:3") == ("file", "pixels")


# ----------------------------------------------------------------------------------------------------------- features


def test_a_chain_is_its_parts_one_after_the_other() -> None:
    images = noise()
    phi = fitted("deskew/blur:0.7/pixels/pca:5/poly:2")
    seen = Blur(0.7).transform(Deskew().transform(images))
    Z = Pixels().fit(seen, RNG(0)).transform(seen)
    Z = PCA(5).fit(Z, RNG(0)).transform(Z)
    np.testing.assert_array_equal(phi.transform(images), Monomials(2).fit(Z, RNG(0)).transform(Z))
    assert phi.n_features == 20 and phi.image_shape == (12, 12, 3)
    assert phi.describe() == (
        "deskewed → blurred (σ = 0.7) → pixels: 12x12 RGB, 432 features → 5 principal components → products of two "
        "features"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_blocks_and_company_change_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise()
    phi = Standardised(parse_phi(text)).fit(images, RNG(0))
    found = phi.transform(images)
    assert found.shape == (60, phi.n_features) and found.dtype == np.float32
    np.testing.assert_array_equal(phi.transform(images[:1]), found[:1])
    monkeypatch.setattr(chain, "_LEAST_IMAGES", 7)
    monkeypatch.setattr(chain, "_MOST_IMAGES", 7)
    np.testing.assert_array_equal(phi.transform(images[3:40]), found[3:40])


def test_maps_see_a_sample_where_there_are_too_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(200, 4, 1)
    whole = parse_phi("pixels/power:1/pca:3/poly:2/pca:2").fit(images, RNG(0))
    monkeypatch.setattr(chain, "_FIT_NUMBERS", 16 * 50)
    phi = parse_phi("pixels/power:1/pca:3/poly:2/pca:2").fit(images, RNG(0))
    chosen = images[np.sort(RNG(0).choice(200, 50, replace=False))]
    Z = Pixels().fit(images, RNG(0)).transform(chosen)
    np.testing.assert_array_equal(phi.maps[1].mean, PCA(3).fit(Z, RNG(0)).mean)
    assert whole.n_features == phi.n_features == 2
    again = parse_phi("pixels/power:1/pca:3/poly:2/pca:2").fit(images, RNG(0))
    np.testing.assert_array_equal(again.transform(images), phi.transform(images))


def test_a_memory_map_will_do(tmp_path: Path) -> None:
    images = noise()
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    a, b = (parse_phi(TEXTS[2]).fit(x, RNG(0)) for x in (images, mapped))
    np.testing.assert_array_equal(a.transform(images), b.transform(mapped))


def test_local_products_by_hand() -> None:
    images = noise(4, 5)
    phi = Products(2).fit(images, RNG(0))
    found = phi.transform(images)
    x = images.astype(float) / 255
    expected = [x.reshape(4, -1)]
    for dy in range(3):
        for dx in range(-2, 3):
            if (dy, dx) > (0, 0) and (dy > 0 or dx > 0):
                pairs = [x[:, r, c] * x[:, r + dy, c + dx] for r in range(5 - dy) for c in range(5) if 0 <= c + dx < 5]
                expected.append(np.stack(pairs, axis=1).reshape(4, -1))
    np.testing.assert_allclose(found, np.hstack(expected), atol=1e-7)
    np.testing.assert_array_equal(phi.transform(images[2:3]), found[2:3])
    with pytest.raises(InputError, match=r"radius=5 in images of 5x5.*Images of at least 6x6"):
        Products(5).fit(images, RNG(0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crop:6/pixels", "nothing is left of images of 12x12"),
        ("crop:4/hog:cell=8", "too small for cells"),
        ("pixels/pca:433", "n=433 components of 432 features"),
        ("pixels/poly:3", "products of up to 3.*pca:40/poly:2"),
    ],
)
def test_fit_refuses_what_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_phi(text).fit(noise(500), RNG(0)).transform(noise())


def test_unfitted_and_other_images_are_refused() -> None:
    with pytest.raises(InputError, match="chain is not fitted"):
        parse_phi("deskew/pixels").transform(noise())
    with pytest.raises(InputError, match="fitted on images of 12x12"):
        fitted("deskew/pixels").transform(noise(side=13))
    with pytest.raises(InputError, match="neither steps nor maps"):
        Chain((), Pixels(), ())


# ---------------------------------------------------------------------------------------------------------- templates


def test_pictures_come_through_linear_maps_and_name_the_steps() -> None:
    images = noise()
    phi = fitted("deskew/pixels/zca/pca:7")
    W = RNG(1).normal(size=(7, 4))
    (shown,) = phi.templates(W)
    V = phi.maps[0].pull_back(phi.maps[1].pull_back(W))
    (plain,) = Pixels().fit(images, RNG(0)).templates(V)
    np.testing.assert_array_equal(shown.images, plain.images)
    assert shown.note == plain.note + " Seen are images that were deskewed."
    both = fitted("pixels/pca:3+hog")
    assert [shown.kind for shown in both.templates(np.ones((both.n_features, 2)))] == ["pixels", "hog"]
    assert fitted("pixels/rbf:5").templates(np.ones((5, 2))) == ()
    with pytest.raises(InputError, match="weights of chain have shape"):
        phi.templates(W[:3])


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("standardised", [False, True])
def test_specifications_survive_json(text: str, standardised: bool) -> None:
    images = noise()
    phi = parse_phi(text)
    assert to_spec(from_spec(json.loads(json.dumps(to_spec(phi))), {})) == to_spec(phi)
    phi = (Standardised(phi) if standardised else phi).fit(images, RNG(0))
    again = from_spec(json.loads(json.dumps(to_spec(phi))), phi.arrays())
    assert to_spec(again) == to_spec(phi) and again.describe() == phi.describe()
    np.testing.assert_array_equal(again.transform(images), phi.transform(images))
    for name, array in phi.arrays().items():
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.")
        np.testing.assert_array_equal(again.arrays()[name], array)


@pytest.mark.parametrize("text", TEXTS)
def test_a_saved_model_scores_the_same_bits(text: str, tmp_path: Path) -> None:
    images = noise()
    phi = Standardised(parse_phi(text)).fit(images, RNG(0))
    W = RNG(2).normal(size=(phi.n_features, 3)).astype(np.float32)
    form = ImageFormat(12, 12, 3)
    model = Model(("a", "b", "c"), form, phi, W, np.zeros(3, np.float32), "cross_entropy", 1.0, {"phi": text})
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.scores(images), model.scores(images))
    np.testing.assert_array_equal(loaded.scores(images[5:6]), model.scores(images)[5:6])


def parts_of(text: str = "deskew/blur/pixels/pca:4/rff:10") -> tuple[dict, dict]:
    phi = fitted(text)
    return json.loads(json.dumps(to_spec(phi))), phi.arrays()


def test_damaged_chains_are_refused() -> None:
    spec, arrays = parts_of()
    swapped = {**spec, "parts": [spec["parts"][2], *spec["parts"][:2], *spec["parts"][3:]]}
    unshaped = {**spec, "image_shape": None}
    other = {**spec, "image_shape": [13, 12, 3]}
    crowd = {**spec, "parts": [spec["parts"][0]] * 40 + spec["parts"][2:]}
    baseless = {**spec, "parts": spec["parts"][:2]}
    nested = {**spec, "parts": [{**spec["parts"][0], "parts": [spec]}, *spec["parts"][1:]]}
    for damaged in (swapped, unshaped, other, crowd, baseless, nested):
        with pytest.raises(InputError):
            from_spec(damaged, arrays)
    mean, frequencies = arrays["map0.mean"], arrays["map1.frequencies"]
    for broken in (
        {},
        {**arrays, "extra": mean},
        {**arrays, "map7.mean": mean},
        {**arrays, "step0.mean": mean},
        {**arrays, "map0.mean": mean[:-1]},
        {**arrays, "map0.mean": mean.astype(np.float64)},
        {**arrays, "map0.mean": mean * np.float32(np.nan)},
        {**arrays, "map1.frequencies": frequencies[:-1]},
        {**arrays, "map1.frequencies": frequencies.T},
        {name: array for name, array in arrays.items() if name != "map1.frequencies"},
    ):
        with pytest.raises(InputError):
            from_spec(spec, broken)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**9)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["pca", "hog"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
SMALL = {
    text: parts_of(text)
    for text in ("deskew/blur/pixels/pca:4/rff:10", "crop/pixels/rbf:3/poly:2/l2", "pixels/nystrom:5")
}


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.data())
def test_mutated_specifications_give_one_kind_of_error(data: st.DataObject) -> None:
    spec, arrays = SMALL[data.draw(st.sampled_from(sorted(SMALL)))]
    spec = json.loads(json.dumps(spec))
    node = spec
    while True:  # walk to a random node and replace it
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
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


# ----------------------------------------------------------------------------------------------------------- training


def test_training_with_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path / "cache"))
    text = "deskew/pixels/pca:20/poly:2"
    runs = tmp_path / "runs"
    command = ["train", "demo:digits", "--phi", text, "--C", "0.01,0.1", "--name", "a", "--runs", str(runs)]
    assert run(command) == 0, capsys.readouterr().err
    found = lastlayer.load(runs / "a")
    score = found.metrics["splits"]["test"]["accuracy"]
    assert score["k"] / score["n"] > 0.95
    assert found.model.representation.n_features == 230
    images = noise(3, 8, 1)
    np.testing.assert_array_equal(
        found.model.scores(images), np.vstack([found.model.scores(images[i : i + 1]) for i in range(3)])
    )
