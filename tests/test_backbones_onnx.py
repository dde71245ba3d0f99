"""φ from ONNX files: input and normalisation read from the file, the tensor before the scores, models that travel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import lastlayer
from lastlayer import InputError
from lastlayer.artifacts import ModelFileError
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model
from lastlayer.representations import onnx as onnx_module
from lastlayer.representations.backbone import IMAGENET
from lastlayer.representations.onnx import Onnx, onnx_settings
from lastlayer.representations.specs import from_spec, parse_phi, to_spec
from small_networks import CLASSES, HIDDEN, SIDE, constant, convolutional, hidden, mlp, node
from small_photos import make_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("LASTLAYER_BACKBONES", raising=False)


def images(n: int = 9, side: int = SIDE, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def features(text: str, x: np.ndarray) -> np.ndarray:
    return parse_phi(f"onnx:{text}").fit(x, np.random.default_rng(0)).transform(x)


def imagenet(x: np.ndarray) -> np.ndarray:
    return ((x / 255 - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2)


def test_the_tensor_before_the_scores_agrees_with_numpy_and_is_named(tmp_path: Path) -> None:
    x = images()
    path = mlp(tmp_path / "net.onnx")
    np.testing.assert_allclose(features(str(path), x), hidden(imagenet(x)), atol=1e-5)
    line = parse_phi(f"onnx:{path}").describe()
    assert "tensor hidden (1x5), 5 features" in line and "3x6x6 float32 rgb, 0..1, mean 0.485x0.456x0.406" in line
    assert "ImageNet's: give mean=" in line


def test_a_tensor_by_name_and_options_of_the_pixels(tmp_path: Path) -> None:
    x = images()
    path = mlp(tmp_path / "net.onnx")
    flat = features(f"{path}#flat:mean=0.5,std=0.25x0.5x1,order=bgr", x)
    expected = ((x[:, :, :, ::-1] / 255 - 0.5) / [0.25, 0.5, 1]).transpose(0, 3, 1, 2).reshape(len(x), -1)
    np.testing.assert_allclose(flat, expected, atol=1e-6)
    raw = features(f"{path}#flat:range=255", x)
    np.testing.assert_allclose(raw, x.transpose(0, 3, 1, 2).reshape(len(x), -1), atol=1e-6)


@pytest.mark.parametrize("batch", ["N", 1, None])
def test_channels_last_and_batch_of_one(tmp_path: Path, batch: object) -> None:
    x = images()
    path = mlp(tmp_path / "net.onnx", layout="nhwc", batch=batch)
    Z = features(f"{path}:mean=none", x)
    np.testing.assert_allclose(Z, hidden(x / 255), atol=1e-5)


def test_fixed_batches_of_several_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"only batches of 8.*any size"):
        features(str(mlp(tmp_path / "net.onnx", batch=8)), images())


def leading(kind: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], Callable[[np.ndarray], np.ndarray]]:
    """Normalisation inside a graph: nodes, constants, and what they make of pixels 0..255 in NCHW."""
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in IMAGENET)
    one = np.float32
    if kind == "torch":
        nodes = [node("Sub", ["pixels", "m"], "centred"), node("Div", ["centred", "s"], "scaled")]
        return nodes, [constant("m", mean), constant("s", std)], lambda x: (x / 255 - mean) / std
    if kind == "keras":
        nodes = [node("Mul", ["pixels", "a"], "zoomed"), node("Sub", ["zoomed", "one"], "scaled")]
        constants = [constant("a", one(1 / 127.5)), constant("one", one(1))]
        return nodes, constants, lambda x: x / 127.5 - 1
    if kind == "caffe":
        nodes = [node("Sub", ["pixels", "m"], "scaled")]
        return nodes, [constant("m", 255 * mean)], lambda x: x - 255 * mean
    if kind == "bytes":
        nodes = [
            node("Cast", ["pixels"], "floats", to=onnx.TensorProto.FLOAT),
            node("Div", ["floats", "white"], "scaled"),
        ]
        return nodes, [constant("white", one(255))], lambda x: x / 255
    nodes = [node("Sub", ["one", "pixels"], "scaled")]
    return nodes, [constant("one", one(1))], lambda x: 1 - x / 255


@pytest.mark.parametrize("kind", ["torch", "keras", "caffe", "bytes", "inverted"])
def test_normalisation_inside_the_graph_is_seen_and_not_done_twice(tmp_path: Path, kind: str) -> None:
    x = images()
    nodes, constants, expected = leading(kind)
    dtype = "uint8" if kind == "bytes" else "float32"
    path = mlp(tmp_path / "net.onnx", first=nodes, first_constants=constants, dtype=dtype)
    Z = features(str(path), x)
    want = hidden(expected(x.transpose(0, 3, 1, 2).astype(np.float64)))
    np.testing.assert_allclose(Z, want, rtol=1e-4, atol=1e-5 * want.max())


@pytest.mark.parametrize(
    ("metadata", "scaled"),
    [
        ({"Image.NominalPixelRange": "Normalized_1_1"}, lambda x: x / 127.5 - 1),
        ({"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}, lambda x: x[..., ::-1]),
        ({"mean": "[0.1, 0.2, 0.3]", "std": "0.5"}, lambda x: (x / 255 - [0.1, 0.2, 0.3]) / 0.5),
        ({"mean": "nonsense", "std": "true"}, lambda x: (x / 255 - IMAGENET[0]) / IMAGENET[1]),
    ],
)
def test_normalisation_in_the_metadata(tmp_path: Path, metadata: dict[str, str], scaled: Callable) -> None:
    x = images()
    path = mlp(tmp_path / "net.onnx", metadata=metadata)
    want = hidden(scaled(x.astype(np.float64)).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(features(str(path), x), want, rtol=1e-4, atol=1e-5 * want.max())


@pytest.mark.parametrize("tensor", ["logits", "output"])
def test_class_scores_are_refused_unless_asked_for(tmp_path: Path, tensor: str) -> None:
    path = mlp(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"class scores.*#hidden is what they are made of") as caught:
        features(f"{path}#{tensor}", images())
    assert caught.value.code == "LL032"
    assert features(f"{path}#{tensor}:logits=true", images()).shape == (9, CLASSES)


def test_convolutional_classifiers_and_networks_without_classifier(tmp_path: Path) -> None:
    x = images()
    by_conv = parse_phi(f"onnx:{convolutional(tmp_path / 'c.onnx', 'conv')}")
    assert "tensor maps (1x7x4x4), mean over places, 7 features" in by_conv.describe()
    headless = parse_phi(f"onnx:{convolutional(tmp_path / 'n.onnx', 'none')}")
    assert "tensor output (1x7x4x4), mean over places" in headless.describe()
    pooled = features(f"{convolutional(tmp_path / 'g.onnx', 'gemm')}", x)
    np.testing.assert_allclose(features(f"{tmp_path / 'c.onnx'}", x), pooled, atol=1e-5)
    every = features(f"{tmp_path / 'c.onnx'}:pool=none", x).reshape(len(x), 7, 16)
    np.testing.assert_allclose(every.mean(axis=2), pooled, atol=1e-5)
    np.testing.assert_array_equal(features(f"{tmp_path / 'c.onnx'}:pool=max", x), every.max(axis=2))
    with pytest.raises(InputError, match="holds no tokens"):
        features(f"{tmp_path / 'c.onnx'}:pool=cls", x)


def test_images_of_other_sizes_and_colours_are_brought_to_the_network(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx")
    gray = images(channels=1)
    np.testing.assert_array_equal(features(str(path), gray), features(str(path), np.repeat(gray, 3, axis=3)))
    big = images(side=24)
    phi = parse_phi(f"onnx:{path}").fit(big, np.random.default_rng(0))
    assert phi.wanted == (SIDE, SIDE) and phi.transform(big).shape == (9, HIDDEN)
    narrow = mlp(tmp_path / "gray.onnx", channels=1)
    x = np.repeat(images(channels=1), 3, axis=3)
    np.testing.assert_allclose(features(str(narrow), x), hidden(x[..., :1] / 255, 1), atol=1e-5)


def test_open_sizes_are_224_or_as_given(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx", sides=("H", "W"))
    assert parse_phi(f"onnx:{path}:size={SIDE}").wanted == (SIDE, SIDE)
    with pytest.raises(InputError, match="fails on an image of \\(3, 224, 224\\)"):
        parse_phi(f"onnx:{path}").describe()  # this network cannot do with 224, but that is what was tried
    with pytest.raises(InputError, match="size=32x32, but the model takes 6x6"):
        parse_phi(f"onnx:{mlp(tmp_path / 'fixed.onnx')}:size=32").describe()


def test_a_row_depends_on_its_image_alone(tmp_path: Path) -> None:
    x = images(40)
    phi = parse_phi(f"onnx:{convolutional(tmp_path / 'c.onnx')}").fit(x, np.random.default_rng(0))
    Z = phi.transform(x)
    np.testing.assert_array_equal(np.concatenate([phi.transform(x[i : i + 1]) for i in range(40)]), Z)
    np.testing.assert_array_equal(phi.transform(x[::-1])[::-1], Z)


def test_an_unused_head_does_not_travel(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx")
    phi = parse_phi(f"onnx:{path}").fit(images(), np.random.default_rng(0))
    kept = onnx.load_model_from_string(phi.arrays()["content"].tobytes())
    assert [t.name for t in kept.graph.initializer] == ["W1"]
    assert [o.name for o in kept.graph.output] == ["hidden"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx"], "nothing is written beside the user's file"


def train(tmp_path: Path, phi: str, **more: object) -> lastlayer.Run:
    photos = make_folder(tmp_path / "photos", per_class=8, side=12)
    return lastlayer.train(photos, phi=phi, runs=tmp_path / "runs", C=0.1, workers=1, **more)


def test_a_small_network_is_in_the_model_file(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx")
    run = train(tmp_path, f"onnx:{path}")
    assert run.metrics["n_features"] == HIDDEN
    path.unlink()
    expected = {row["path"]: row["predicted"] for row in run.predictions}
    moved = shutil.copy(run.model_path, tmp_path / "elsewhere.safetensors")
    model = Model.load(moved)
    assert any("tensor hidden (1x5)" in line for line in model.describe())
    for prediction in lastlayer.predict(model, [tmp_path / "photos" / p for p in expected]):
        assert prediction.label == expected[str(Path(prediction.path).relative_to(tmp_path / "photos"))]


def test_a_large_network_is_looked_for_and_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "EMBEDDED", 100)
    path = mlp(tmp_path / "net.onnx")
    run = train(tmp_path, f"onnx:{path}")
    photo = tmp_path / "photos" / "red" / "000.png"
    first = lastlayer.predict(run, photo)[0]
    assert first.label == "red"
    stored = shutil.copytree(run.folder, tmp_path / "far" / "run")
    hidden_away = path.rename(tmp_path / "far" / "kept.onnx")
    with pytest.raises(InputError, match=r"the model needs net\.onnx, and it is not there"):
        lastlayer.predict(stored, photo)
    shutil.copy(hidden_away, stored / "net.onnx")
    assert lastlayer.predict(stored, photo)[0] == first, "beside the model file"
    (stored / "net.onnx").unlink()
    (tmp_path / "nets").mkdir()
    shutil.copy(hidden_away, tmp_path / "nets" / "net.onnx")
    monkeypatch.setenv("LASTLAYER_BACKBONES", str(tmp_path / "nets"))
    assert lastlayer.predict(stored, photo)[0] == first, "in a folder of the environment"
    mlp(tmp_path / "nets" / "net.onnx", layout="nhwc")
    with pytest.raises(InputError, match=r"is not the file that the model was trained with \(SHA-256"):
        lastlayer.predict(stored, photo)


def test_changed_files_and_options_make_new_features(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx")
    assert not train(tmp_path, f"onnx:{path}").metrics["cache"]["features"]
    assert train(tmp_path, f"onnx:{path}").metrics["cache"]["features"]
    assert not train(tmp_path, f"onnx:{path}:mean=none").metrics["cache"]["features"]
    mlp(path, metadata={"somebody": "else"})
    assert not train(tmp_path, f"onnx:{path}").metrics["cache"]["features"]


def test_large_photos_come_in_at_the_size_of_the_network_and_paths_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "photos", per_class=7, side=100)
    mlp(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    run = lastlayer.train("photos", phi="onnx:net.onnx#hidden:mean=none", C=0.1, runs=tmp_path / "runs", workers=1)
    assert run.model.image_format == ImageFormat(SIDE, SIDE, 3)
    assert run.config["train"]["phi"] == f"onnx:{tmp_path / 'net.onnx'}#hidden:mean=none"
    both = lastlayer.train("photos", phi="onnx:net.onnx+hog", C=0.1, runs=tmp_path / "runs", workers=1)
    assert both.model.image_format.height == 64, "hog sees what it is used to; the network resizes"


def test_what_a_hostile_model_file_could_say_is_refused(tmp_path: Path) -> None:
    path = mlp(tmp_path / "net.onnx")
    fitted = parse_phi(f"onnx:{path}").fit(images(), np.random.default_rng(0))
    spec, arrays = to_spec(fitted), fitted.arrays()
    np.testing.assert_array_equal(from_spec(spec, arrays).transform(images()), fitted.transform(images()))
    for key, value in [
        ("file", "/tmp/../etc/passwd"),
        ("file", "\\\\server\\share\\net.onnx"),
        ("file", "https://example.org/net.onnx"),
        ("file", "a\nb"),
        ("file", 7),
        ("tensor", None),
        ("tensor", ""),
        ("size", [6, 6, 6]),
        ("size", [10**9, 6]),
        ("size", "6"),
        ("layout", "auto"),
        ("mean", "auto"),
        ("mean", [0.5, 0.5]),
        ("std", [0.0]),
        ("std", [float("inf")]),
        ("range", -1.0),
        ("range", True),
        ("order", "gbr"),
        ("pool", ["mean"]),
        ("logits", 1),
        ("sha256", "../../secret"),
        ("sha256", ""),
        ("channels", 2),
        ("dtype", "object"),
        ("shape", [1, -5]),
        ("shape", "15"),
        ("features", 2**40),
        ("features", 0),
        ("unknown", 1),
    ]:
        with pytest.raises(InputError):
            from_spec({**spec, "parameters": {**spec["parameters"], key: value}}, arrays)
    with pytest.raises(InputError, match="no row of bytes"):
        from_spec(spec, {"content": np.zeros((2, 2), np.uint8)})
    broken = from_spec(spec, {"content": np.frombuffer(b"no network at all", np.uint8)})
    with pytest.raises(InputError, match="cannot be run"):
        broken.transform(images())
    lying = from_spec({**spec, "parameters": {**spec["parameters"], "features": 4}}, arrays)
    with pytest.raises(InputError, match="5 features, not 4"):
        lying.transform(images())


def test_a_model_file_with_a_broken_statement_is_a_model_file_error(tmp_path: Path) -> None:
    run = train(tmp_path, f"onnx:{mlp(tmp_path / 'net.onnx')}")
    model = run.model
    header, tensors = model._header(), model._tensors()
    header["representation"]["parts"][0]["parameters"]["file"] = "../net.onnx"
    from lastlayer.model import model_of

    with pytest.raises(ModelFileError, match="leads upwards"):
        model_of(header, tensors, "it")


def test_tensors_outside_the_folder_are_refused_and_those_beside_are_read(tmp_path: Path) -> None:
    x = images()
    path = mlp(tmp_path / "net.onnx")
    plain = features(str(path), x)
    model = onnx.load_model(str(path))
    folder = tmp_path / "split"
    folder.mkdir()
    onnx.save_model(
        model, str(folder / "net.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    np.testing.assert_array_equal(features(str(folder / "net.onnx"), x), plain)
    for location in ("../split/weights.bin", str(folder / "weights.bin"), "link/weights.bin"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(tmp_path)
        loaded = onnx.load_model(str(folder / "net.onnx"), load_external_data=False)
        for tensor in loaded.graph.initializer:
            tensor.external_data[0].value = location
        (folder / "hostile.onnx").write_bytes(loaded.SerializeToString())
        with pytest.raises(InputError, match="outside its folder"):
            features(str(folder / "hostile.onnx"), x)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "bytes"), (b"\x00garbage", "no ONNX model|no graph"), (b"\x08\x08", "no graph")],
)
def test_files_that_are_no_networks(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        parse_phi(f"onnx:{path}").describe()
    with pytest.raises(InputError, match="there is no file"):
        parse_phi(f"onnx:{tmp_path / 'other.onnx'}").describe()
    with pytest.raises(InputError, match=r"is no file|cannot be opened"):
        parse_phi(f"onnx:{tmp_path}").describe()


def test_the_text_form() -> None:
    assert onnx_settings("a/b.onnx") == {"file": "a/b.onnx"}
    assert onnx_settings("C:\\nets\\b.onnx#/head/Gemm:0:size=32") == {
        "file": "C:\\nets\\b.onnx",
        "tensor": "/head/Gemm:0",
        "size": 32,
    }
    assert onnx_settings("b.onnx#/block/out") == {"file": "b.onnx", "tensor": "/block/out"}
    assert parse_phi("onnx:a/b.onnx:mean=0.5x0.4x0.3+pixels").parts[0].mean == (0.5, 0.4, 0.3)
    for wrong in (
        "onnx:",
        "onnx:a.onnx:sice=3",
        "onnx:a.onnx:size=",
        "onnx:a.onnx:size=3,size=4",
        "onnx://host/a.onnx",
    ):
        with pytest.raises(InputError):
            parse_phi(wrong)


def test_a_missing_package_is_told_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = mlp(tmp_path / "net.onnx")
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"needs the package {package}.*lastlayer\[onnx\]") as caught:
            Onnx(str(path)).describe()
        assert caught.value.code == "LL060"
