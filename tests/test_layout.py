"""The rules of the house, as far as a program can see them: imports, mirrored tests, sizes, names, packaging."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("agent", "supervisor", "syscalls")
SOURCES = sorted(path.relative_to(ROOT) for top in TOPS for path in (ROOT / top).rglob("*.py"))
_MOST_LINES = 400
_MOST_FUNCTION_LINES = 40
# "data" is not among them: DATA is what the protocol calls its bulk frames.
_NOT_USED = re.compile(r"(^|_)(manager|utils?|helpers?|info)(_|$)", re.IGNORECASE)
# Goes into a pod's specification as text, so it is as short as can be, and imports what it has received by its full name.
_LOADER = Path("agent/bootstrap/loader.py")

# Who may import what, by the longest name that fits. The agent is sent into pods alone: it has nothing but itself.
ALLOWED = {
    "agent.wire": ("agent.wire",),
    "agent.pump": ("agent.wire", "agent.pump"),
    "agent": ("agent",),
    "syscalls": ("agent.wire", "syscalls"),
    "supervisor": ("agent.wire", "agent.pump", "agent.bootstrap", "agent.options", "syscalls", "supervisor"),
}


def _module(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _imports(path: Path) -> list[tuple[int, str, bool]]:
    """(line, absolute dotted name, whether it was relative) of every import, those in functions included."""
    package = list(path.parent.parts)
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.lineno, node.module or "", False))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            whole = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x`: x may be a module.
            found += [(node.lineno, f"{whole}.{alias.name}" if _is_module(whole, alias.name) else whole, True)
                      for alias in node.names]  # fmt: skip
    return found


def _is_module(package: str, name: str) -> bool:
    place = ROOT.joinpath(*package.split("."), name)
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def test_imports_keep_to_the_rule() -> None:
    wrong = []
    for path in SOURCES:
        module = _module(path)
        layer = max((name for name in ALLOWED if _is_within(module, name)), key=len)
        for line, name, relative in _imports(path):
            if relative and not any(_is_within(name, allowed) for allowed in ALLOWED[layer]):
                wrong.append(f"{path}:{line}: {layer} must not import {name}")
            if not relative and name.split(".")[0] in (*TOPS, "mirrord_trace") and path != _LOADER:
                wrong.append(f"{path}:{line}: {name} has to be a relative import")
    assert not wrong, "\n".join(wrong)


def test_the_agent_needs_nothing_but_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "msgpack", "h11", "h2", "__future__"}
    wrong = [
        f"{path}:{line}: {name}"
        for path in SOURCES
        if path.parts[0] == "agent"
        for line, name, relative in _imports(path)
        if not (path == _LOADER and name == "mirrord_trace.agent.main")
        if not relative and name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_each_source_file_has_its_test_file() -> None:
    missing = []
    for path in SOURCES:
        if path.name == "__init__.py" and not _has_code(path):
            continue
        name = f"test_{path.parent.name if path.name == '__init__.py' else path.stem.strip('_')}.py"
        test = ROOT / "tests" / path.parent / name
        if not test.exists():
            missing.append(f"{path}: {test.relative_to(ROOT)}")
    assert not missing, "\n".join(missing)


def test_each_mirrored_test_file_has_its_source_file() -> None:
    orphans = []
    for top in TOPS:
        for test in (ROOT / "tests" / top).rglob("test_*.py"):
            folder = ROOT / test.parent.relative_to(ROOT / "tests")
            stem = test.stem.removeprefix("test_")
            sources = (folder / f"{stem}.py", folder / f"__{stem}__.py", folder / f"{stem}.c")
            if not any(source.exists() for source in sources) and folder.name != stem:
                orphans.append(str(test.relative_to(ROOT)))
    assert not orphans, "\n".join(orphans)


# A docstring alone is no code.
def _has_code(path: Path) -> bool:
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def test_files_and_functions_are_short() -> None:
    wrong = []
    for path in SOURCES:
        text = (ROOT / path).read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > _MOST_LINES:
            wrong.append(f"{path}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = (node.end_lineno or 0) - node.lineno + 1
                # `def` to the end, less the docstring: explaining must not cost room.
                size -= _docstring_lines(node)
                if size > _MOST_FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno}: {node.name} has {size} lines")
    assert not wrong, "\n".join(wrong)


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or 0) - first.lineno + 1
    return 0


def test_what_is_public_is_documented() -> None:
    wrong = []
    for path in SOURCES:
        if path == _LOADER:
            continue
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        if _has_code(path) and ast.get_docstring(tree) is None:
            wrong.append(f"{path}: no docstring")
        for node in tree.body:
            is_definition = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if is_definition and not node.name.startswith("_") and ast.get_docstring(node) is None:
                wrong.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    assert not wrong, "\n".join(wrong)


def test_words_that_say_nothing_are_not_used_as_names() -> None:
    wrong = []
    for path in SOURCES:
        if _NOT_USED.search(path.stem):
            wrong.append(str(path))
        wrong += [
            f"{path}:{node.lineno}: {node.name}"
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and _NOT_USED.search(_words(node.name))
        ]
    assert not wrong, "\n".join(wrong)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)


def test_the_agent_says_pod_and_client() -> None:
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for path in SOURCES
        if path.parts[0] == "agent"
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\bremote\b|\bRemote(?!ProtocolError)", line)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_else_lies_at_the_top() -> None:
    known = {
        *TOPS, "pyproject.toml", "tests", "benchmarks", "docs", "README.md", "LICENSE", "CHANGELOG.md", "Makefile",
        ".ci", ".gitignore", ".gitattributes", ".editorconfig", ".github",
    }  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.fail(f"this test needs the git clone: {listed.stderr}")
    assert {name.split("/")[0] for name in listed.stdout.splitlines()} <= known


def _packages() -> list[str]:
    folders = {path.parent for path in SOURCES}
    return sorted("mirrord_trace." + ".".join(folder.parts) for folder in folders)


def test_every_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = "\n".join(f'    "{name}",' for name in _packages())
    assert project["tool"]["setuptools"]["packages"] == _packages(), f"pyproject.toml, tool.setuptools.packages:\n{wanted}"


def test_every_package_is_marked_as_typed_and_is_a_package() -> None:
    assert all((ROOT / top / "py.typed").exists() for top in TOPS)
    assert not [str(path.parent) for path in SOURCES if not (ROOT / path.parent / "__init__.py").exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that was built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for top in TOPS:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "--wheel-dir", folder, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return archive.namelist()


def test_a_wheel_has_all_modules_and_no_other_top_level(wheel: list[str]) -> None:
    assert {re.sub(r"-[\d.]+\.dist-info$", ".dist-info", name.split("/")[0]) for name in wheel} == {
        "mirrord_trace",
        "mirrord_trace.dist-info",
    }
    modules = {name for name in wheel if name.endswith(".py")}
    assert modules == {f"mirrord_trace/{path}" for path in SOURCES}
    assert {f"mirrord_trace/{top}/py.typed" for top in TOPS} <= set(wheel)
