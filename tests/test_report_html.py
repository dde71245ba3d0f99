"""The report as text: complete, escaped, self-contained, bounded."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lastlayer._arrays import InputError
from lastlayer.evaluation import Proportion, evaluate_scores
from lastlayer.report import render_report
from lastlayer.report.figures import heat_level, nice_step, path_panels
from lastlayer.report.render import printable, short_name
from lastlayer.report.thumbnails import encode, weights_picture
from report_fixtures import HOSTILE, Pictures, hostile_data, report_data

VOID = {"meta", "img", "input", "br", "hr", "link"}
SVG_EMPTY = {"rect", "line", "circle", "polyline", "polygon", "image"}


class Page(HTMLParser):
    """Collects elements, checks that they nest, keeps the text of each element name."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), f"attribute twice in {tag}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in SVG_EMPTY, tag
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, text):
        self.texts.append(text)
        for tag in set(self.open):
            self.inside.setdefault(tag, []).append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag=None):
        return re.sub(r"\s+", " ", " ".join(self.texts if tag is None else self.inside.get(tag, [])))


@pytest.fixture(scope="module")
def page():
    return Page(render_report(report_data()))


@pytest.fixture(scope="module")
def hostile():
    return render_report(hostile_data())


# ---- what it says -------------------------------------------------------------------------------


def test_opening_sentence_carries_counts_interval_and_guessing():
    data = report_data()
    confusion = np.array([[87, 3], [6, 174]])
    test = replace(data.splits["test"], confusion=confusion, class_names=("cat", "dog"))
    data = replace(
        data,
        class_names=("cat", "dog"),
        splits={"test": test},
        confusion_images={},
        mistakes=(),
        templates=(),
        suspects=None,
        unsure=(),
        learning_curve=None,
    )
    text = Page(render_report(data)).text("header")
    assert "Right on 261 of 270 unseen images ( 96.7% , likely 93.8–98.2%)." in text
    assert "Guessing the most common class: 33.3%." in text
    assert "How the model was selected: C = 1 of 7 values" in text


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("val", "validation images .* These images also chose the model"),
        ("train", "training images .* The model was fitted on them"),
        ("", "No labelled image was scored"),
    ],
)
def test_a_score_that_is_not_of_unseen_images_says_so(quote, expected):
    text = Page(render_report(report_data(quote=quote))).text("header")
    assert re.search(expected, text)
    assert "unseen" not in text


def test_later_looks_and_unbeaten_baselines_are_said_at_the_top():
    from lastlayer._codes import Problem

    text = Page(render_report(report_data(look=3, problems=(Problem("LL021", "m"),)))).text("header")
    assert "Look #3 at these test images" in text
    assert "not beaten beyond noise (LL021)" in text


def test_every_part_is_there(page):
    text = page.text()
    for part in (
        "What it confuses",
        "Labels to check",
        "When it is unsure",
        "1 problem found",
        "Weakest:",
        "Each class",
        "Confusions",
        "Top losses",
        "nearest to it",
        "When to believe it",
        "The answers it was least sure of",
        "Would more images help?",
        "Which class needs images most",
        "How the network was trained",
        "Learned weights of each class",
        "How the strength of regularisation was chosen",
        "quote this one",
        "look #1",
        "majority",
        "1-NN pixels",
        "2 unreadable files skipped",
        "a.png",
        "turned upright as their EXIF orientation says",
        "lastlayer train ./photos",
        "--split",
        'phi = "pixels"',
    ):
        assert part in text, part
    assert text.count("How was this computed?") == 10


def test_numbers_of_the_tables_are_those_of_the_evaluation(page):
    data = report_data()
    text = page.text("table")
    for evaluation in data.splits.values():
        a = evaluation.accuracy
        assert f"{a.k}/{a.n} {a.percent()} {a.interval()}" in text
    for score in data.splits["test"].per_class:
        assert f"{score.recall.k}/{score.n} {score.recall.percent()} {score.recall.interval()}" in text
        low, high = score.f1_interval
        assert f"{100 * score.f1:.1f}% [{100 * low:.1f}, {100 * high:.1f}]" in text


def test_a_class_absent_from_the_split_prints_na():
    y = np.array([0, 0, 2])
    e = evaluate_scores(y, np.eye(3)[[0, 2, 2]], ("cat", "dog", "fox"), "test")
    data = report_data(splits={"test": e}, confusion_images={}, mistakes=())
    text = Page(render_report(data)).text()
    assert "dog 0 n/a n/a" in text
    assert "1 class has no image in this split" in text


@pytest.mark.parametrize("K", [1, 2, 30, 31, 120])
def test_any_number_of_classes(K):
    names = tuple(f"class {k}" for k in range(K))
    html = render_report(report_data(class_names=names, N=max(60, 2 * K)))
    page = Page(html)
    cells = [a for a in page.all("td") if re.fullmatch(r"[do]\d+", a.get("class", ""))]
    assert len(cells) == (K * K if K <= 30 else 0)
    assert ("most frequent" in page.text()) == (K > 30)
    assert len(page.all("image")) == (K > 30)


def test_everything_optional_may_be_missing():
    from lastlayer.report import ReportData

    html = render_report(ReportData("t", "", "", "s", "", "", [], (), {}, "", ""))
    Page(html)
    perfect = evaluate_scores(np.array([0, 1]), np.eye(2), ("a", "b"), "test")
    text = Page(
        render_report(report_data(class_names=("a", "b"), splits={"test": perfect}, mistakes=(), confusion_images={}))
    ).text()
    assert "every answer on this split is right" in text
    assert "No class has a mistake" in text


# ---- who may say what ---------------------------------------------------------------------------


def test_hostile_names_stay_text(hostile):
    page = Page(hostile)
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert not page.all("iframe") + page.all("object") + page.all("link") + page.all("base") + page.all("form")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc")], tag
        for name in ("src", "href"):
            if name in attributes:
                assert re.match(r"#[a-z0-9-]+$|data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", attributes[name])
    assert "<script>alert(1)</script>" in page.text()
    assert any("<script>alert(1)</script>" in a.get("alt", "") for a in page.all("img"))
    assert any('"><img src=x onerror=alert(2)>' in a.get("aria-label", "") for a in page.all("a"))
    assert "{{ 7 * 7 }}" in page.text() and "49{%" not in page.text()
    assert "&lt;b&gt;&amp;" in page.text()


def test_nothing_unprintable_reaches_the_page(hostile):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", hostile)
    hostile.encode("utf-8")
    text = Page(hostile).text()
    assert "photo\\u202egpj.exe" in text
    assert "line\\x0abreak\\x00\\x1b[31m" in text
    assert "broken\\xff\\ud800" in text


def test_printable_leaves_good_names_and_its_own_output_alone():
    for name in ("café/χ²/写真.png", "a\\xb.png", "C:\\x\\y", *map(printable, HOSTILE)):
        assert printable(name) == name


def test_long_names_keep_beginning_and_extension():
    name = "long/" + "x" * 4000 + "/end.jpeg"
    assert len(short_name(name)) <= 90
    assert short_name(name).startswith("long/xxx") and short_name(name).endswith("/end.jpeg")


def test_the_policy_allows_this_script_and_style_and_no_load(hostile):
    page = Page(hostile)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", hostile, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[name] == f"'sha256-{digest}'"
    assert "http://" not in hostile and "https://" not in hostile
    assert "url(" not in hostile and "@import" not in hostile


# ---- for everyone -------------------------------------------------------------------------------


def test_landmarks_headings_names_and_references(page):
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    assert page.elements[0] == ("html", {"lang": "en"})
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, a in page.elements:
        if a.get("href", "").startswith("#"):
            assert a["href"][1:] in ids
        assert a.get("aria-labelledby", ids[0]) in ids
    assert all(a.get("alt") for a in page.all("img"))
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label") or svg.get("class") == "clipped"
    assert all("scope" in a for a in page.all("th"))


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _mix(colour, alpha, ground):
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(alpha * a + (1 - alpha) * b):02x}" for a, b in pairs)


def test_text_contrast_is_aa_in_light_dark_and_print():
    style = re.search(r"<style>(.*?)</style>", render_report(report_data()), re.DOTALL)[1]
    schemes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        c = {k: v if len(v) == 7 else "#" + "".join(2 * x for x in v[1:]) for k, v in scheme.items()}
        for text, ground in [
            ("ink", "page"), ("ink", "card"), ("ink", "quoted"), ("ink", "faint"), ("quiet", "page"), ("quiet", "card"),
            ("quiet", "quoted"), ("link", "card"), ("link", "page"), ("caution", "caution-bg"), ("wrong", "card"),
            ("card", "link"),
        ]:  # fmt: skip
            assert _contrast(c[text], c[ground]) >= 4.5, (text, ground, scheme)
        shades = re.findall(r"\.[do]\d+[^{]*\{ background: rgb\((\d+) (\d+) (\d+) / (\.\d+)\)", style)
        assert len(shades) == 20
        for level in shades:
            *rgb, alpha = level
            shade = _mix("#" + "".join(f"{int(v):02x}" for v in rgb), float(alpha), c["card"])
            assert _contrast(c["ink"], shade) >= 4.5, (level, scheme)


# ---- bounded ------------------------------------------------------------------------------------


def photos():
    names = tuple(f"class {k}" for k in range(25))
    return report_data(class_names=names, N=2000, side=96, per_cell=24)


def test_pictures_are_dropped_last_first_and_the_report_says_so():
    data = photos()
    whole = render_report(data, max_bytes=50_000_000)
    small = render_report(data, max_bytes=700_000)
    assert len(whole.encode()) > 1_500_000
    assert len(small.encode()) <= 700_000
    assert "pictures were left out" in small
    assert "pictures were left out" not in whole
    # the cards repeat some of the pictures below them
    kept, every = (re.findall(r'src="(data:[^"]+)"', html.split('id="scores"')[1]) for html in (small, whole))
    assert 0 < len(kept) < len(every)
    # Weights and mistakes stay longest.
    assert small.count('alt="Weights of') == whole.count('alt="Weights of') == 25
    said = int(re.search(r"<b>([\d,]+) of [\d,]+ pictures", small)[1].replace(",", ""))
    assert said == len(every) - len(kept)
    Page(small)


def test_a_cell_that_lost_its_pictures_is_no_link():
    page = Page(render_report(photos(), max_bytes=1))
    assert page.all("img") == []
    assert [a for a in page.all("a") if "data-gallery" in a] == []
    assert "no picture" in page.text()
    assert "pictures were left out" in page.text() and "keeps none" not in page.text()


def test_a_thousand_classes_with_long_names_stay_below_five_megabytes():
    names = tuple(f"{k} " + "&<" * 200 for k in range(1000))
    data = report_data(class_names=names, N=10_000, side=32)
    html = render_report(data)
    assert len(html.encode()) < 5_000_000
    assert "60 of 1000 classes: those with the lowest recall" in html


def test_digits_make_a_small_report():
    data = report_data(class_names=tuple("0123456789"), N=270, side=8, channels=1)
    assert len(render_report(data).encode()) < 600_000


def test_the_same_data_give_the_same_bytes():
    assert render_report(report_data()) == render_report(report_data())


# ---- pictures and figures -----------------------------------------------------------------------


def _decoded(pixmap):
    return Image.open(io.BytesIO(base64.b64decode(pixmap.uri.split(",")[1])))


@pytest.mark.parametrize(
    ("shape", "size", "pixelated"),
    [
        ((8, 8, 1), (8, 8), True),
        ((28, 28), (28, 28), True),
        ((300, 200, 3), (64, 96), False),
        ((1, 900, 3), (96, 1), False),
        ((96, 49, 3), (49, 96), False),
    ],
)
def test_thumbnails_are_at_most_96_pixels_and_keep_their_shape(shape, size, pixelated):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixmap = encode(image)
    assert (pixmap.width, pixmap.height) == size == _decoded(pixmap).size
    assert pixmap.pixelated == pixelated


def test_small_pictures_are_exact_and_photographs_small():
    rng = np.random.default_rng(0)
    digit = rng.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    assert np.array_equal(np.asarray(_decoded(encode(digit))), digit[:, :, 0])
    assert len(encode(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).uri) < 20_000


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)]
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(InputError, match="picture"):
        encode(image)


def test_weights_are_clipped():
    image = np.array([[[-1.0, 0.5, 2.0], [np.nan, 0, 1]]], np.float32)
    assert weights_picture(image).tolist() == [[[0, 128, 255], [128, 0, 255]]]


def test_template_with_fewer_pictures_than_classes_does_not_break():
    data = report_data()
    short = Pictures("hog", "glyphs", data.templates[0].images[:2])
    assert render_report(replace(data, templates=(short,))).count('alt="Weights of') == 2


def test_path_panels_mark_the_chosen_value_and_leave_out_what_is_not_finite():
    data = report_data()
    rows = [*data.path[:-1], replace(data.path[-1], train_loss=float("nan"), val_loss=float("inf"))]
    accuracy, loss = path_panels(rows, data.chosen)
    assert [len(c.dots) for c in accuracy.curves + loss.curves] == [7, 6, 6]
    assert [d.chosen for d in accuracy.curves[0].dots].index(True) == data.chosen
    assert accuracy.chosen_x == accuracy.curves[0].dots[data.chosen].x
    hollow = [not d.converged for d in accuracy.curves[0].dots]
    assert hollow == [False] * 5 + [True] * 2
    for panel in (accuracy, loss):
        numbers = [float(v) for c in panel.curves for v in re.findall(r"[\d.]+", c.points)]
        assert all(0 <= v <= panel.width for v in numbers)


def test_path_axis_is_true_to_the_values():
    data = report_data()
    panel = path_panels(data.path, 3)[0]
    (first, last) = panel.y_ticks[0], panel.y_ticks[-1]
    a, b = (float(t.text.rstrip("%")) / 100 for t in (first, last))
    for dot, row in zip(panel.curves[0].dots, data.path, strict=True):
        share = a + (b - a) * (dot.y - first.at) / (last.at - first.at)
        assert share == pytest.approx(row.val_accuracy.value, abs=1e-9)


@pytest.mark.parametrize("rows", [(), (0,), (0, 0)])
def test_no_figure_for_fewer_than_two_values_of_c(rows):
    data = report_data()
    assert path_panels([data.path[i] for i in rows], None) == ()
    html = render_report(replace(data, path=[data.path[i] for i in rows], chosen=None))
    assert 'class="panel"' not in html.partition('id="path"')[2]


def test_path_with_no_validation_image_draws_losses_alone():
    rows = [replace(row, val_accuracy=Proportion(0, 0), val_loss=float("nan")) for row in report_data().path]
    (panel,) = path_panels(rows, None)
    assert [c.name for c in panel.curves] == ["training"]


def test_shades_grow_with_the_share_and_none_is_lost():
    levels = [heat_level(k, 1000, 0.5) for k in range(0, 501)]
    assert levels[0] == 0 and levels[1] == 1 and levels[-1] == 10
    assert levels == sorted(levels)
    assert nice_step(0.3) == 0.5
