"""What loading a model needs and does, and the golden file that every version must open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lastlayer
from lastlayer._arrays import UInt8
from lastlayer.data.images import ImageFormat
from lastlayer.model import Model
from small_models import PROVENANCE, make_model

GOLDEN = Path(__file__).parent / "golden"


def in_a_new_process(code: str, *arguments: str) -> Any:
    source = str(Path(lastlayer.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("phi", "compiled"), [("pixels", False), ("colour", False), ("hog+colour", True)])
def test_predicting_imports_neither_sklearn_nor_scipy_nor_figures(phi: str, compiled: bool, tmp_path: Path) -> None:
    make_model(phi).save(tmp_path / "m")
    loaded = in_a_new_process(
        """
        import json, sys
        import numpy as np
        from lastlayer.model import Model
        model = Model.load(sys.argv[1])
        model.predict(np.zeros((2, 16, 16, 3), np.uint8))
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
        """,
        str(tmp_path / "m"),
    )
    assert "numpy" in loaded
    heavy = {"sklearn", "scipy", "matplotlib", "pandas", "skimage", "jinja2", "rich", "joblib", "torch", "numba"}
    # compiled features need numba, which brings SciPy
    assert heavy & set(loaded) == ({"numba", "scipy"} if compiled else set())


AUDIT = """
    import json, sys
    import numpy as np
    from lastlayer.model import Model

    path, times, planted = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    Model.load(path)  # modules that are loaded lazily, and nothing else
    events, on = [], True

    def hook(event, given):
        if on and not (event == "open" and isinstance(given[0], int)):  # a descriptor that is open already
            events.append((event, str(given[0]) if event == "open" else ""))

    sys.addaudithook(hook)
    for _ in range(times):
        Model.load(path)
        if planted:
            import pickle
            pickle.loads(b"cos\\ngetpid\\n(tR.")
    on = False
    print(json.dumps([[*event, events.count(event)] for event in sorted(set(events))]))
"""


def assert_loading_is_harmless(events: list[list[Any]], path: Path, times: int) -> None:
    """Only the model file is opened, once a load; nothing is imported, executed, spawned or connected."""
    assert {event for event, _, _ in events} <= {"open", "builtins.id"}  # json asks for identities
    assert [[name, count] for event, name, count in events if event == "open"] == [[str(path), times]]


@pytest.mark.parametrize("phi", ["pixels", "hog+colour"])
def test_loading_opens_one_file_and_runs_nothing(phi: str, tmp_path: Path) -> None:
    make_model(phi).save(tmp_path / "m")
    events = in_a_new_process(AUDIT, str(tmp_path / "m"), "1000")
    assert_loading_is_harmless(events, tmp_path / "m", 1000)


def test_the_audit_finds_a_planted_unpickling(tmp_path: Path) -> None:
    make_model().save(tmp_path / "m")
    events = in_a_new_process(AUDIT, str(tmp_path / "m"), "2", "planted")
    with pytest.raises(AssertionError):
        assert_loading_is_harmless(events, tmp_path / "m", 2)


def test_the_first_load_imports_known_code_only(tmp_path: Path) -> None:
    make_model("hog+colour").save(tmp_path / "m")
    files = in_a_new_process(
        """
        import json, sys
        from lastlayer.model import Model
        before = set(sys.modules)
        Model.load(sys.argv[1])
        new = [sys.modules[name] for name in set(sys.modules) - before]
        print(json.dumps([module.__name__ for module in new]))
        """,
        str(tmp_path / "m"),
    )
    allowed = {"lastlayer", "numpy", "PIL", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in files} <= allowed


# -------------------------------------------------------------------------------------------------------- golden


def write_golden() -> None:
    """Make the golden file of format 1: run once, by ``python -c "import test_model_loading as t; t.write_golden()"``.

    Never made again for the same format: every later version must open this very file.
    """
    form = ImageFormat(12, 12, 3, fit="stretch")
    phi = "hog:cell=4,block=1,levels=1+colour:grid=1+pixels:size=3, standardised"
    provenance = {**PROVENANCE, "phi": phi, "scores": {"test": [1, 2]}}
    model = make_model(phi, form, provenance=provenance, temperature=25.0)
    GOLDEN.mkdir(exist_ok=True)
    model.save(GOLDEN / "model-v1.safetensors")
    scores = model.scores(golden_images())
    expected = {
        "digest": model.digest,
        "class_names": list(model.class_names),
        "scores": scores.tolist(),
        "probabilities": model.probabilities(scores).tolist(),
    }
    (GOLDEN / "model-v1.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="ascii")


def golden_images() -> UInt8:
    """Six pictures by a formula, so that they are the same for ever."""
    n, y, x, c = np.ogrid[:6, :12, :12, :3]
    return ((37 * n + 11 * y * (n + 1) + 23 * x * x + 91 * c + 5 * x * y) % 256).astype(np.uint8)


def test_the_golden_file_of_format_1_still_predicts_the_same() -> None:
    expected = json.loads((GOLDEN / "model-v1.json").read_text(encoding="ascii"))
    model = Model.load(GOLDEN / "model-v1.safetensors")
    assert model.digest == expected["digest"]
    assert list(model.class_names) == expected["class_names"]
    scores = model.scores(golden_images())
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(model.probabilities(scores), expected["probabilities"], atol=1e-4)
    assert np.ptp(expected["probabilities"], axis=0).min() > 0.01  # the images are told apart
