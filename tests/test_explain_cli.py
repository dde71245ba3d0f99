"""``lastlayer explain``: a real run, its text, its JSON and its pages."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import lastlayer
from lastlayer import InputError
from lastlayer.cli.app import run as command_line
from lastlayer.evaluation.explanations import decompose
from lastlayer.pipeline.explaining import Explainer, ExplainSettings
from lastlayer.pipeline.write_explanation import explanation_html
from small_photos import make_folder

HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("LASTLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def digits(cache, tmp_path_factory):
    """The folder of a run on the built-in digits."""
    runs = tmp_path_factory.mktemp("runs")
    return lastlayer.train("demo:digits", phi="pixels", C=0.01, runs=runs).folder


@pytest.fixture(scope="module")
def photos(cache, tmp_path_factory):
    """A run on colour pictures, and their folder."""
    root = tmp_path_factory.mktemp("photos")
    folder = make_folder(root / "data", per_class=12)
    return lastlayer.train(folder, phi="pixels:size=6+colour:grid=2", C=0.1, runs=root / "runs").folder, folder


def explain(capsys, *arguments):
    code = command_line(["explain", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_text_says_why_and_everything_adds_up(digits, capsys):
    code, out, err = explain(capsys, digits, "image#7", "-q")
    assert code == 0 and not err
    value, bias, terms = map(float, re.search(r"margin (\S+) = bias (\S+) \+ 64 feature terms (\S+) ", out).groups())
    assert value > 0 and value == pytest.approx(bias + terms, abs=0.011)
    assert "closest training images: image#" in out and "most for it among 1,5" in out
    assert "flip test: covering" in out and "rank correlation" in out
    page = digits / "explain" / "image-7.html"
    assert f"→ {page}" in out and page.stat().st_size < 1_000_000


def test_json_is_complete_and_exact(digits, capsys):
    code, out, _ = explain(capsys, digits, "image#7", "image#8", "--vs", "3", "--json", "--no-html", "-q")
    document = json.loads(out)
    assert code == 0 and len(document["images"]) == 2
    for found in document["images"]:
        margin, shown = found["margin"], found["evidence"]
        assert found["html"] is None and found["compared"]["versus"] == "3"
        assert margin["value"] == pytest.approx(margin["bias"] + margin["terms"], abs=1e-4) and margin["error"] < 1e-4
        assert shown["sum"] == pytest.approx(margin["terms"], abs=1e-4)
        assert sum(shown["thirds"].values()) == pytest.approx(shown["sum"])
        assert np.sum(shown["grid"]) == pytest.approx(shown["sum"])
        assert len(found["neighbours"]) == 5 and len(found["influence"]["supporting"]) == 3
        assert all(each["margin_change_if_removed"] < 0 for each in found["influence"]["supporting"])
        # pixels are linear: the map foretells what covering does
        assert found["occlusion"]["rank_correlation"] > 0.9
        assert not found["left_out"]


def test_an_image_is_not_its_own_neighbour_but_may_have_decided(digits):
    explainer = Explainer(digits, settings=ExplainSettings(neighbours=3))
    training = explainer.training
    assert not isinstance(training, str)
    name = training.name(0)
    found = explainer.explain(explainer.subjects([name])[0])
    assert found.trained_on and found.label == explainer.model.class_names[int(training.labels[0])]
    assert name not in [each.name for each in found.neighbours]
    distances = np.linalg.norm(training.Z, axis=1)
    cosine = training.Z @ training.Z[0] / (distances * distances[0])
    best = [training.name(int(i)) for i in np.argsort(-cosine) if training.name(int(i)) != name][:3]
    assert [each.name for each in found.neighbours] == best


@pytest.mark.parametrize("reference", ["mean", "zero"])
def test_terms_of_both_readings_add_up_by_part(photos, reference):
    folder, data = photos
    explainer = Explainer(folder, settings=ExplainSettings(reference=reference, influence=0, neighbours=0))
    model = explainer.model
    for subject in explainer.subjects([str(data / "red")]):
        z = model.scores(subject.pixels[None])[0]
        for classes in ((0, 1), (2, 0)):
            found = decompose(model.representation, model.weights, model.bias, subject.pixels, z, classes, reference)
            size = abs(found.bias) + np.abs(found.terms).sum()
            assert found.error < 2e-6 * size
            assert sum(part.total for part in found.parts) == pytest.approx(found.terms.sum())
            assert [part.name for part in found.parts] == ["pixels", "colour"]


def test_influence_is_that_of_a_run_without_the_image(photos, tmp_path):
    """Trained again without the most influential image, with the same φ, the margin moves as foretold."""
    from lastlayer.selection.fit import fit_linear

    folder, data = photos
    explainer = Explainer(folder, settings=ExplainSettings(influence=1))
    found = explainer.explain(explainer.subjects([str(data / "red" / "003.png")])[0])
    training, model = explainer.training, explainer.model
    foretold = found.influence.supporting[0]
    i = [training.name(j) for j in range(len(training.rows))].index(foretold.name)
    n, l2 = len(training.rows), model.provenance["l2"]
    whole, less = (
        fit_linear(training.Z[keep], training.labels[keep], 3, l2=l2 * n / len(keep), tol=1e-9, solver="newton_cg")
        for keep in (np.arange(n), np.delete(np.arange(n), i))
    )
    z = model.representation.transform(found.picture[None])[0].astype(np.float64)
    change = z @ (less.weights - whole.weights) + less.bias - whole.bias
    assert change[found.margin.a] - change[found.margin.b] == pytest.approx(foretold.value, rel=0.1)


def test_hostile_names_are_escaped(photos, tmp_path, capsys):
    folder, data = photos
    hostile = tmp_path / HOSTILE
    shutil.copy(data / "blue" / "000.png", hostile)
    code, _, _ = explain(capsys, folder, hostile, hostile.parent, "--out", tmp_path / "pages", "-q")
    assert code == 0
    pages = sorted((tmp_path / "pages").iterdir())
    assert len(pages) == 2 and len({page.name for page in pages}) == 2
    for page in pages:
        assert re.fullmatch(r"[A-Za-z0-9._-]+\.html", page.name)
        html = page.read_text(encoding="utf-8")
        assert "<img src=x" not in html
        assert "onerror=alert(1)&gt;&amp;&#34;&#39;.png" in html  # a long path is cut in its middle
        assert "<script" not in html and "default-src &#39;none&#39;" in html
        assert not re.search(r"""(?:src|href)=["'](?!data:)""", html)
    assert not list((tmp_path / "pages").glob(".*"))


def test_unknown_class_is_named_with_what_was_meant(photos, capsys):
    code, out, err = explain(capsys, photos[0], photos[1] / "red" / "000.png", "--vs", "gren")
    assert code == 1 and not out and "no such class" in err and "Did you mean green?" in err


def test_unreadable_and_missing_images(photos, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    good = photos[1] / "red" / "000.png"
    code, out, err = explain(capsys, photos[0], broken, good, "--no-html", "-q")
    assert code == 1 and "LL003" in err and "broken.png" in err and "red over" in out
    code, _, err = explain(capsys, photos[0], tmp_path / "none.png")
    assert code == 1 and "does not exist" in err


def test_a_model_file_alone_still_explains_and_says_what_is_left_out(photos, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    shutil.copy(photos[0] / "model.safetensors", model)
    code, out, _ = explain(capsys, model, photos[1] / "red" / "001.png", "-q")
    assert code == 0 and "margin" in out
    assert "left out: no training images and no influences: the model file lies in no training run" in out
    assert (tmp_path / "explain" / "001.html").is_file()


def test_changed_training_data_are_noticed(cache, tmp_path, capsys):
    data = make_folder(tmp_path / "data", per_class=8)
    run = lastlayer.train(data, phi="pixels:size=6", C=0.1, runs=tmp_path / "runs")
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(data / "blue" / "000.png")
    code, out, _ = explain(capsys, run.folder, data / "red" / "001.png", "--no-html", "-q")
    assert code == 0 and "are not those it was trained on any more" in out


def test_a_head_without_an_optimum_has_no_influences(cache, tmp_path, capsys):
    data = make_folder(tmp_path / "data", per_class=8)
    run = lastlayer.train(data, phi="pixels:size=6", head="perceptron", runs=tmp_path / "runs")
    code, out, _ = explain(capsys, run.folder, data / "red" / "001.png", "--no-html", "-q")
    assert code == 0 and "closest training images: " in out and "left out: no influences: the head perceptron" in out


def test_views_go_together(cache, tmp_path):
    data = make_folder(tmp_path / "data", per_class=8)
    run = lastlayer.train(
        data, phi="pixels:size=6", C=0.1, augment="flip", views="flip", class_weight="balanced", runs=tmp_path / "runs"
    )
    explainer = Explainer(run.folder)
    found = explainer.explain(explainer.subjects([str(data / "red" / "001.png")])[0])
    assert found.influence is not None and not found.influence.corrected and not found.left_out
    assert found.influence.n == len(explainer.training.rows)
    assert found.evidence.map.sum() == pytest.approx(found.margin.terms.sum(), abs=1e-4)


def test_model_level_writes_templates_and_one_page(photos, tmp_path, capsys):
    code, out, _ = explain(capsys, photos[0], "--out", tmp_path / "pages")
    assert code == 0 and "red: " in out
    assert (tmp_path / "pages" / "model.html").stat().st_size < 1_000_000
    pictures = sorted(path.name for path in (tmp_path / "pages").glob("*.png"))
    assert pictures == sorted(
        f"template-{kind}-{name}.png" for kind in ("pixels", "colour") for name in ("blue", "green", "red")
    )
    for name in pictures:
        with Image.open(tmp_path / "pages" / name) as picture:
            assert picture.mode == "RGB" and min(picture.size) > 10
    code, out, _ = explain(capsys, photos[0], "--out", tmp_path / "pages", "--json")
    document = json.loads(out)
    assert code == 0 and [each["class"] for each in document["classes"]] == ["blue", "green", "red"]
    assert len(document["files"]) == 7


def test_pages_need_no_surrogates_and_no_network(photos):
    explainer = Explainer(photos[0], settings=ExplainSettings(neighbours=2, influence=1))
    subject = explainer.subjects([str(photos[1] / "green" / "002.png")])[0]
    found = explainer.explain(subject)
    html = explanation_html(found)
    html.encode("utf-8")
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("data:image/") == 4 + len(found.neighbours) + len(
        found.influence.supporting + found.influence.opposing
    )


def test_unknown_reference_is_refused():
    with pytest.raises(InputError, match="mean or zero"):
        ExplainSettings(reference="median")
