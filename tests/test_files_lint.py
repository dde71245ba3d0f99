"""A lint over the syntax of the whole package: who opens files for writing, and who could run foreign code.

Files are written by `lastlayer._files` alone, and nothing unpickles or evaluates anything but the restricted
unpickler of CIFAR's Python version. Each rule is first shown a planted offence.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import lastlayer

ROOT = Path(lastlayer.__file__).parent
WRITERS = {"_files.py"}
UNPICKLERS = {"data/unpickle.py"}

READ_MODES = {"r", "rb", "rt", "br"}
OPENERS = {"open", "fdopen", "TarFile", "ZipFile"}
PATH_WRITERS = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "tofile"}
OS_WRITERS = {"replace", "rename", "renames", "link", "symlink", "truncate", "mkfifo", "mknod"}
OS_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}
NUMPY_WRITERS = {"save", "savez", "savez_compressed", "savetxt", "memmap", "open_memmap"}
BAD_MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy", "code"),
}
WRITING_MODULES = {"fileinput", "dbm", "sqlite3"}
SHUTIL_READERS = {"rmtree", "which", "disk_usage", "get_terminal_size"}
HARMLESS = {"shutil": SHUTIL_READERS, "tempfile": {"TemporaryFile"}}  # a file without a name is no file
OTHER_OPENERS = {"Image", "pil", "webbrowser", "archive"}
MODULES_WITH_OPEN = {"io", "os", "gzip", "bz2", "lzma", "zipfile", "tarfile"}
# a finished run folder gets its name; what a killed training left is put aside
FOLDER_RENAMES = {"pipeline/run.py", "pipeline/network_unfinished.py"}
BAD_CALLS = {"eval", "exec", "compile", "__import__", "execfile", "read_pickle"}


def _name(function: ast.AST) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _owner(function: ast.expr) -> str:
    return _name(function.value) if isinstance(function, ast.Attribute) else ""


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [(node.module or "").split(".")[0]]
    return []


def _streams(tree: ast.AST) -> set[str]:
    """Names of streams that came from `atomic_writer` or that are buffers in memory."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem):
            made, target = node.context_expr, node.optional_vars
        elif isinstance(node, ast.Assign):
            made, target = node.value, node.targets[0]
        else:
            continue
        is_stream = isinstance(made, ast.Call) and _name(made.func) in (
            "atomic_writer",
            "BytesIO",
            "StringIO",
        )
        if is_stream and isinstance(target, ast.Name):
            names.add(target.id)
    return names


def _mode(call: ast.Call) -> object:
    """The mode of a call that opens a file; None when it cannot be told."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    position = 0 if isinstance(call.func, ast.Attribute) and _owner(call.func) not in MODULES_WITH_OPEN else 1
    if len(call.args) > position:
        given.append(call.args[position])
    if not given:
        return "r"
    return given[0].value if isinstance(given[0], ast.Constant) else None


def _opens_null_device(call: ast.Call) -> bool:
    return _owner(call.func) == "os" and _name(call.func) == "open" and _name(call.args[0]) == "devnull"


def _is_write(call: ast.Call, streams: set[str]) -> bool:
    name, owner = _name(call.func), _owner(call.func)
    if owner == "os" and name == "open":
        return False  # its flags are looked for by name
    if name == "fdopen" and call.args and isinstance(call.args[0], ast.Call) and _name(call.args[0].func) == "dup":
        return False  # a copy of stdout or the like, not a file
    if name in OPENERS and owner not in OTHER_OPENERS:
        return _mode(call) not in READ_MODES
    if owner in HARMLESS:
        return name not in HARMLESS[owner]
    if owner == "os" and name in OS_WRITERS:
        return True
    if name == "memmap":
        return not any(
            k.arg == "mode" and isinstance(k.value, ast.Constant) and k.value.value == "r" for k in call.keywords
        )
    numpy = owner in ("np", "numpy", "format") and name in NUMPY_WRITERS
    if numpy or name == "savefig":
        return not (call.args and isinstance(call.args[0], ast.Name) and call.args[0].id in streams)
    return isinstance(call.func, ast.Attribute) and name in PATH_WRITERS and owner != "_files"


def writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that open a file for writing, or could."""
    streams = _streams(tree)
    excused = {
        flag
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and _opens_null_device(call)
        for flag in ast.walk(call)
    }
    for node in ast.walk(tree):
        for module in _imported(node):
            if module in WRITING_MODULES:
                yield node.lineno, f"import {module}"
        if isinstance(node, ast.Attribute) and node.attr in OS_FLAGS and node not in excused:
            yield node.lineno, node.attr
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                writer = node.module == "os" and alias.name in OS_WRITERS | {"open", "fdopen"}
                if writer or alias.name not in HARMLESS.get(node.module or "", {alias.name}):
                    yield node.lineno, f"import {alias.name}"
        if isinstance(node, ast.Call) and _is_write(node, streams):
            yield node.lineno, ast.unparse(node)[:70]


def runs_foreign_code(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that unpickle or evaluate, or could."""
    for node in ast.walk(tree):
        for module in _imported(node):
            if module in BAD_MODULES:
                yield node.lineno, f"import {module}"
        if isinstance(node, ast.Call):
            plain = isinstance(node.func, ast.Name) or _owner(node.func) in ("builtins", "pd", "pandas")
            if plain and _name(node.func) in BAD_CALLS:
                yield node.lineno, ast.unparse(node)[:70]
            for keyword in node.keywords:
                allows = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                if keyword.arg == "allow_pickle" and allows:
                    yield node.lineno, ast.unparse(node)[:70]


def _modules(exempt: Collection[str] = ()) -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).as_posix() not in exempt)


def test_the_lint_sees_the_package() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in _modules()}
    assert names >= WRITERS | {"_arrays.py", "artifacts/reading.py"}


@pytest.mark.parametrize("path", _modules(WRITERS), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_written_in_one_place(path: Path) -> None:
    found = list(writes(ast.parse(path.read_bytes())))
    if path.relative_to(ROOT).as_posix() in FOLDER_RENAMES:
        found = [(line, what) for line, what in found if not what.startswith("os.rename(")]
    assert found == []


@pytest.mark.parametrize("path", _modules(UNPICKLERS), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_foreign_code_runs(path: Path) -> None:
    assert list(runs_foreign_code(ast.parse(path.read_bytes()))) == []


@pytest.mark.parametrize(
    "planted",
    [
        'open("x", "w")',
        'open("x", mode="ab")',
        'open("x", "r+")',
        'open("x", "xb")',
        'open("x", how)',
        'io.open("x", "w")',
        'path.open("wb")',
        'path.open(mode="w")',
        'gzip.open(p, "wb")',
        "zipfile.ZipFile(p, 'w')",
        "path.write_text('x')",
        "path.write_bytes(b'x')",
        "path.touch()",
        "array.tofile(path)",
        "np.save(path, X)",
        "np.save('x.npy', X)",
        "np.savez(path, X)",
        "np.memmap(path, mode='w+')",
        "np.lib.format.open_memmap(path)",
        "figure.savefig(path)",
        "os.replace(a, b)",
        "os.rename(a, b)",
        "os.open(p, os.O_WRONLY)",
        "os.open(p, os.O_CREAT | os.O_RDWR)",
        "os.fdopen(d, 'wb')",
        "os.open(p, flags | os.O_APPEND)",
        "flags = os.O_WRONLY",
        "shutil.copyfile(a, b)",
        "shutil.move(a, b)",
        "from shutil import copy",
        "from os import replace",
        "from tempfile import NamedTemporaryFile",
        "tempfile.mkstemp()",
        "np.memmap(path)",
        "np.memmap(path, mode=mode)",
        "zipfile.ZipFile(p, mode)",
    ],
)
def test_the_lint_finds_a_planted_write(planted: str) -> None:
    assert list(writes(ast.parse(planted)))


@pytest.mark.parametrize(
    "harmless",
    [
        'open("x")',
        'open("x", "rb")',
        "path.open()",
        'path.open("rb")',
        'gzip.open(p, "rb")',
        "Image.open(stream, formats=FORMATS)",
        "os.open(p, os.O_RDONLY)",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
        "shutil.rmtree(folder)",
        "tempfile.TemporaryFile()",
        "os.fdopen(os.dup(1), 'wb')",
        "np.memmap(path, mode='r')",
        "zipfile.ZipFile(path)",
        "webbrowser.open(address)",
        "buffer = io.BytesIO()\nnp.save(buffer, X)",
        "with atomic_writer(path) as stream:\n    np.save(stream, X)",
        "buffer = io.BytesIO()\nfigure.savefig(buffer)",
        "write_bytes(path, b'x')",
        "_files.write_bytes(path, b'x')",
        "text.replace('a', 'b')",
    ],
)
def test_the_lint_lets_pass(harmless: str) -> None:
    assert list(writes(ast.parse(harmless))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "from marshal import loads",
        "def f():\n    import dill",
        "eval(text)",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "builtins.eval(text)",
        "__import__(name)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pd.read_pickle(path)",
    ],
)
def test_the_lint_finds_planted_foreign_code(planted: str) -> None:
    assert list(runs_foreign_code(ast.parse(planted)))


@pytest.mark.parametrize("harmless", ["re.compile(x)", "np.load(p, allow_pickle=False)", "model.eval()"])
def test_the_lint_lets_pass_harmless_code(harmless: str) -> None:
    assert list(runs_foreign_code(ast.parse(harmless))) == []
