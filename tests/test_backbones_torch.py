"""φ from PyTorch modules: the input of the last Linear, weights named by their hash, nothing imported unasked."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

import lastlayer
from lastlayer import InputError
from lastlayer.model import Model
from lastlayer.representations import torch_modules
from lastlayer.representations.backbone import IMAGENET
from lastlayer.representations.specs import from_spec, parse_phi, to_spec
from lastlayer.representations.torch import Torch

torch = pytest.importorskip("torch", reason="torch is not installed: torch backbones are not tested")
import small_modules  # noqa: E402
from small_photos import make_folder  # noqa: E402

SIDE = small_modules.SIDE


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("LASTLAYER_TRUST", raising=False)
    monkeypatch.setattr(torch_modules, "_NAMED", set())


def images(n: int = 8) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def fitted(text: str, x: np.ndarray) -> Torch:
    return parse_phi(text).fit(x, np.random.default_rng(0))


def expected(x: np.ndarray, seed: int = 0, width: int = 5) -> np.ndarray:
    """What the head of `Net` is given, by the module itself on the whole batch."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        net = small_modules.Net(width)
        pixels = ((x / 255 - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2).astype(np.float32)
        return torch.relu(net.conv(torch.from_numpy(pixels))).mean(dim=(2, 3)).numpy()


@pytest.mark.parametrize("form", ["logits", "probabilities", "mapping"])
def test_features_are_what_the_last_linear_to_run_is_given(form: str) -> None:
    x = images()
    phi = fitted(f"torch:small_modules:make:size={SIDE},form={form}", x)
    np.testing.assert_allclose(phi.transform(x), expected(x), atol=1e-6)
    assert "input of head (1x5), 5 features" in phi.describe()
    assert torch.get_num_threads() >= 1


def test_arguments_go_to_the_factory_and_the_seed_decides_random_weights() -> None:
    x = images()
    Z = fitted(f"torch:small_modules:make:width=9,size={SIDE},seed=3", x).transform(x)
    np.testing.assert_allclose(Z, expected(x, seed=3, width=9), atol=1e-6)
    same = fitted(f"torch:small_modules:make:width=9,size={SIDE},seed=3", x)
    np.testing.assert_array_equal(same.transform(x), Z)
    other = fitted(f"torch:small_modules:make:width=9,size={SIDE},seed=4", x)
    assert same.sha256 != other.sha256


def test_a_module_by_name_and_maps_pooled() -> None:
    x = images()
    maps = fitted(f"torch:small_modules:make:size={SIDE},module=conv", x)
    assert "output of conv (1x5x4x4), mean over places, 5 features" in maps.describe()
    headless = fitted(f"torch:small_modules:make:size={SIDE},form=maps", x)
    np.testing.assert_allclose(headless.transform(x), expected(x), atol=1e-6)
    assert ", output (1x5x4x4)" in headless.describe()
    every = fitted(f"torch:small_modules:make:size={SIDE},form=maps,pool=none", x).transform(x)
    assert every.shape == (8, 80)
    with pytest.raises(InputError, match="class scores") as caught:
        fitted(f"torch:small_modules:make:size={SIDE},module=head", x)
    assert caught.value.code == "LL032"
    assert fitted(f"torch:small_modules:make:size={SIDE},module=head,logits=true", x).n_features == 4
    with pytest.raises(InputError, match="no module 'hed'"):
        fitted(f"torch:small_modules:make:size={SIDE},module=hed", x)


def test_class_scores_of_a_convolution_are_taken_off_too() -> None:
    x = images()
    phi = fitted(f"torch:small_modules:squeezed:size={SIDE}", x)
    assert "input of 2 (1x5x4x4), mean over places, 5 features" in phi.describe()
    np.testing.assert_allclose(phi.transform(x), expected(x), atol=1e-6)
    with pytest.raises(InputError, match="class scores"):
        fitted(f"torch:small_modules:squeezed:size={SIDE},module=2", x)


def test_tokens_are_averaged_or_the_first_is_taken() -> None:
    x = images()
    whole = fitted(f"torch:small_modules:tokens:size={SIDE},pool=none", x).transform(x).reshape(8, SIDE, 7)
    mean = fitted(f"torch:small_modules:tokens:size={SIDE}", x)
    np.testing.assert_allclose(mean.transform(x), whole.mean(axis=1), atol=1e-6)
    assert "mean over tokens" in mean.describe()
    first = fitted(f"torch:small_modules:tokens:size={SIDE},pool=cls", x).transform(x)
    np.testing.assert_array_equal(first, whole[:, 0])


def test_a_row_depends_on_its_image_alone() -> None:
    x = images(30)
    phi = fitted(f"torch:small_modules:make:size={SIDE}", x)
    Z = phi.transform(x)
    np.testing.assert_array_equal(np.concatenate([phi.transform(x[i : i + 1]) for i in range(30)]), Z)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch:small_modules:fails:depth=3", r"failed \(RuntimeError: cannot make it with \['depth'\]\)"),
        ("torch:small_modules:no_module", "gives a str, no torch.nn.Module"),
        ("torch:small_modules:not_callable", "no factory not_callable"),
        ("torch:small_modules:missing", "no factory missing"),
        ("torch:no_such_package_at_all:make", "cannot be imported"),
        ("torch:small_modules:make:size=2", "fails on an image of"),
        ("timm:resnet18:pretrained=false", "timm cannot be imported"),
    ],
)
def test_what_cannot_be_made_is_told(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=message):
        fitted(text, images())


@pytest.mark.parametrize(
    "text",
    [
        "torch:",
        "torch:os",
        "torch:../evil:make",
        "torch:os:system('x')",
        "torch:a b:make",
        "timm:hf-hub:somebody/net",
        "timm:../../net:pretrained=false",
        "timm:resnet18",
        "torchvision:resnet18",
        "torch:small_modules:make:device=tpu",
        "torch:small_modules:make:size=0",
        "torch:small_modules:make:pool=median",
        "torch:small_modules:make:seed=-1",
    ],
)
def test_hostile_and_wrong_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_phi(text)


def test_libraries_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for timm and torchvision, which are not installed for the tests."""
    asked = []

    def create_model(name: str, **arguments: object) -> torch.nn.Module:
        asked.append((name, arguments))
        net = small_modules.Net()
        net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (3, SIDE, SIDE)}
        return net

    timm = types.ModuleType("timm")
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    phi = fitted("timm:tiny.v1:pretrained=false,drop=0.1", images())
    assert asked == [("tiny.v1", {"pretrained": False, "drop": 0.1})]
    assert phi.size == (SIDE, SIDE) and phi.mean == (0.5, 0.5, 0.5) and phi.std == (0.25, 0.25, 0.25)
    assert phi.describe().startswith("timm:tiny.v1 (weights")

    vision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    models.get_model = lambda name, **arguments: asked.append((name, arguments)) or small_modules.Net()
    vision.models = models
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    phi = fitted(f"torchvision:net9:weights=DEFAULT,size={SIDE}", images())
    assert asked[1] == ("net9", {"weights": "DEFAULT"}) and phi.n_features == 5


def test_a_model_file_imports_nothing_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = make_folder(tmp_path / "photos", per_class=8, side=12)
    phi = f"torch:small_modules:make:size={SIDE},mean=none"
    run = lastlayer.train(photos, phi=phi, C=10.0, runs=tmp_path / "runs", workers=1)
    photo = photos / "red" / "000.png"
    first = lastlayer.predict(run, photo)[0]
    assert Model.load(run.model_path).representation.base.sha256
    monkeypatch.setattr(torch_modules, "_NAMED", set())  # as in a new process
    assert any("input of head (1x5)" in line for line in Model.load(run.model_path).describe())
    with pytest.raises(InputError, match="set LASTLAYER_TRUST=torch:small_modules:make and try again"):
        lastlayer.predict(run, photo)
    monkeypatch.setenv("LASTLAYER_TRUST", "timm:other, torch:small_modules:make")
    assert lastlayer.predict(run, photo)[0] == first
    monkeypatch.setattr(small_modules, "Net", lambda width, form: small_modules.Tokens())
    with pytest.raises(InputError, match=r"not .* as in training"):
        lastlayer.predict(run, photo)


def test_hostile_specifications_are_refused() -> None:
    x = images()
    phi = fitted(f"torch:small_modules:make:size={SIDE}", x)
    spec = to_spec(phi)
    np.testing.assert_array_equal(from_spec(spec, {}).transform(x), phi.transform(x))
    for key, value in [
        ("package", "os; import sys"),
        ("package", None),
        ("factory", "make()"),
        ("factory", ["make"]),
        ("arguments", {"a b": 1}),
        ("arguments", {"a": {"deep": 1}}),
        ("arguments", [1]),
        ("size", None),
        ("size", [6]),
        ("channels", 4),
        ("mean", "auto"),
        ("std", [-1.0]),
        ("range", 0.0),
        ("module", 5),
        ("side", "under"),
        ("side", ""),
        ("sha256", ""),
        ("sha256", "zz"),
        ("shape", [0]),
        ("features", 0),
        ("features", True),
        ("device", "cuda:0"),
        ("seed", 0.5),
        ("logits", None),
    ]:
        with pytest.raises(InputError):
            from_spec({**spec, "parameters": {**spec["parameters"], key: value}}, {})
    with pytest.raises(InputError):
        from_spec(spec, {"weights": np.zeros(3, np.float32)})


def test_a_missing_torch_is_told_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs the package torch.*lastlayer\[torch\]") as caught:
        parse_phi("torch:small_modules:make").describe()
    assert caught.value.code == "LL060"
