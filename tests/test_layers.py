"""The house: lower levels never import higher ones, one importer per vendor, nothing heavy at import."""

from __future__ import annotations

import ast
import fnmatch
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import imagesearch

PACKAGE = Path(imagesearch.__file__).parent

# Level by level, from the ground up; within a level and folder a module imports only earlier lines.
HOUSE: tuple[tuple[str, ...], ...] = (
    ("errors", "records", "reports", "atomic", "yaml_files"),
    (
        "images.paths",
        "images.find",
        "images.raw",
        "images.colour",
        "images.metadata",
        "images.markers",
        "images.damage",
        "images.files",
        "images.sources",
        "images.addresses",
        "images.connections",
        "images.urls",
        "images.pipeline",
        "stores.base",
        "stores.scores",
        "stores.files",
        "stores.columns",
        "stores.engines",
        "stores.address",
        "stores.gate",
        "stores.memory",
        "stores.milvus.index_types",
        "stores.milvus.schema",
        "stores.milvus.visibility",
        "stores.milvus.codes",
        "stores.milvus.nearest",
        "stores.milvus.arrow",
        "stores.milvus.lite_expressions",
        "stores.milvus.lite_files",
        "stores.milvus.lite_lock",
        "stores.milvus.lite_log",
        "stores.milvus.lite_manifest",
        "stores.milvus.lite_segment",
        "stores.milvus.lite_recent",
        "stores.milvus.lite_schema",
        "stores.milvus.lite_salvage",
        "stores.milvus.lite_state",
        "stores.milvus.lite_index",
        "stores.milvus.lite_check",
        "stores.milvus.lite_repair",
        "stores.milvus.lite_table",
        "stores.milvus.lite_compaction",
        "stores.milvus.lite_reader",
        "stores.milvus.collection",
        "stores.milvus.lite_collection",
        "stores.milvus.lite_session",
        "stores.milvus.lite_opened",
        "stores.milvus.lite",
        "stores.milvus.server_connection",
        "stores.milvus.server_state",
        "stores.milvus.server_rows",
        "stores.milvus.server_index",
        "stores.milvus.server_collection",
        "stores.milvus.server",
        "stores.milvus.lite_plain",
        "stores.milvus.embedded",
    ),
    (
        "models.catalogue",
        "models.digests",
        "models.hub",
        "models.inspection",
        "models.preprocessing",
        "models.devices",
        "models.tuning",
        "models.network",
        "models.pooling",
        "models.text",
        "models.runtimes.base",
        "models.runtimes.torch",
        "models.runtimes.openvino",
        "models.runtimes.onnx",
        "models.runtimes.cache",
    ),
    ("models.embedder", "models.classifier"),
    (
        "models.runtimes.export",
        "models.runtimes.conversion",
        "models.runtimes.bundled",
        "models.runtimes.selection",
    ),
    (
        "models.vocabulary",
        "models.heads",
        "models.label_axes",
        "models.words",
        "models.candidates",
        "models.new_head",
        "models.trained",
        "models.publishing",
        "models.patches",
    ),
    (
        "models.training_batches",
        "models.objectives",
        "models.processes",
        "models.learning_trainer",
        "models.trainer",
        "models.fine_tuning",
    ),
    (
        "library.exclusive",
        "library.features",
        "library.encoding",
        "library.extraction",
        "library.snapshot",
        "library.ledger",
        "library.pairing",
        "library.missing",
        "library.plan",
        "library.annotations",
        "library.stored_labels",
        "library.hand_labels",
        "library.label_history",
        "library.placing",
        "library.undo_file",
        "library.sorting",
        "library.refresh",
        "library.forgetting",
        "library.checking",
        "library.parquet",
        "library.transfer",
        "search.alternatives",
        "search.filters",
        "search.chance",
        "search.confidence",
        "search.query",
        "search.image_encoding",
        "search.vectors",
        "search.patches",
        "search.label_words",
        "search.grouping",
        "search.reordering",
        "search.background",
        "search.ranking",
        "search.answers",
        "search.wire",
        "search.browsing",
        "search.labels",
    ),
    (
        "learning.labels",
        "learning.label_sets",
        "learning.splits",
        "learning.metrics",
        "learning.exact",
        "learning.outcomes",
        "learning.pictures",
        "learning.costs",
        "learning.evaluation",
        "learning.distortions",
        "learning.copies",
        "learning.index_quality",
        "learning.words_evaluation",
        "learning.confidence_evaluation",
        "learning.label_quality",
        "learning.nearest",
        "learning.logistic",
        "learning.calibration",
        "learning.mistakes",
        "learning.probe",
        "learning.active",
        "learning.questions",
        "learning.fine_tuned",
        "learning.contest",
        "learning.match",
        "learning.model_card",
    ),
    (
        "settings",
        "config",
        "credentials",
        "networks",
        "managing",
        "indexing",
        "searching",
        "labelling",
        "active_labelling",
        "service",
        "evaluating",
        "client_connection",
        "client_annotations",
        "client_jobs",
        "client_pictures",
        "client_queries",
        "client_labels",
        "client",
        "serving_file",
        "training_vectors",
        "training",
    ),
    (
        "frontends.errors",
        "frontends.text",
        "frontends.panels",
        "frontends.figures",
        "frontends.confidence_figures",
        "frontends.evaluation_tables",
        "frontends.pages",
        "frontends.sheet",
        "frontends.training_tables",
        "frontends.evaluation_figures",
        "frontends.evaluation_page",
        "frontends.training_figures",
        "frontends.training_page",
    ),
    ("frontends.web.problems",),
    (
        "frontends.web.security.tokens",
        "frontends.web.security.authorities",
        "frontends.web.security.requests",
        "frontends.web.security.policy",
        "frontends.web.security.request_log",
        "frontends.web.security.response_headers",
        "frontends.web.security.request_check",
        "frontends.web.security.cross_site",
        "frontends.web.security.sessions",
        "frontends.web.security.credentials",
        "frontends.web.security.login_page",
        "frontends.web.security.authentication",
        "frontends.web.security.login",
        "frontends.web.security.bodies",
        "frontends.web.security.layers",
        "frontends.web.security.protocol",
    ),
    (
        "frontends.mcp.results",
        "frontends.mcp.sdk",
        "frontends.mcp.schemas",
        "frontends.mcp.sheet",
        "frontends.mcp.tools",
        "frontends.mcp.forwarding",
        "frontends.mcp.worker",
        "frontends.mcp.server",
    ),
    (
        "frontends.web.schemas",
        "frontends.web.forms",
        "frontends.web.replies",
        "frontends.web.decoding",
        "frontends.web.rendering",
        "frontends.web.uploads",
        "frontends.web.label_sessions",
        "frontends.web.thumbnails",
        "frontends.web.batching",
        "frontends.web.failures",
        "frontends.web.browsing",
        "frontends.web.jobs",
        "frontends.web.backend",
        "frontends.web.several",
        "frontends.web.metrics",
        "frontends.web.head",
        "frontends.web.responses",
    ),
    (
        "frontends.web.routes.health",
        "frontends.web.routes.jobs",
        "frontends.web.routes.labels",
        "frontends.web.routes.library",
        "frontends.web.routes.page",
        "frontends.web.routes.pictures",
        "frontends.web.routes.archive",
        "frontends.web.routes.search",
    ),
    ("frontends.web.app", "frontends.web.running"),
    (
        "frontends.cli.output",
        "frontends.cli.process",
        "frontends.cli.progress",
        "frontends.cli.holders",
        "frontends.cli.served",
        "frontends.cli.flags",
        "frontends.cli.options",
        "frontends.cli.queries",
        "frontends.cli.samples",
        "frontends.cli.delivery",
        "frontends.cli.graphics",
        "frontends.cli.previews",
        "frontends.cli.keys",
        "frontends.cli.label_dialogue",
        "frontends.cli.delivery_options",
        "frontends.cli.filter_options",
        "frontends.cli.labelling_options",
        "frontends.cli.label_reports",
        "frontends.cli.watched_folders",
    ),
    ("frontends.cli.commands.*",),
    ("frontends.cli.app",),
    ("frontends.reference", "frontends.scripts", "__main__"),
)

# Modules that may import a vendor's library, wherever in the file: patterns with spaces between.
OWNERS = {
    "pymilvus": "stores.milvus.server*",
    "milvus_lite": "stores.milvus.lite*",
    "faiss": "stores.milvus.codes",
    "pyarrow": "[ls]*.*",
    "transformers": "models.network models.trainer models.learning_trainer",
    "peft": "models.fine_tuning",
    "accelerate": "models.learning_trainer",
    "pytorch_metric_learning": "models.objectives",
    "huggingface_hub": "models.hub models.publishing",
    "torch": "models.*",
    "openvino": "models.runtimes.openvino",
    "onnxruntime": "models.runtimes.onnx",
    "onnx": "models.runtimes.onnx",
    "onnxscript": "models.runtimes.onnx",
    "matplotlib": "frontends.*",
    "typer": "frontends.*",
    "rich": "frontends.*",
    "watchfiles": "frontends.cli.watched_folders",
    "rawpy": "images.raw",
    "pydantic": "settings config frontends.*",
    "fastapi": "frontends.web.*",
    "jinja2": "frontends.web.*",
    "prometheus_client": "frontends.web.metrics",
    "starlette": "frontends.*",
    "uvicorn": "frontends.web.*",
    "h11": "frontends.web.security.protocol",
    "mcp": "frontends.mcp.*",
    "mcp_types": "frontends.mcp.*",
    "anyio": "frontends.mcp.server frontends.web.backend",
}

HEAVY = {
    "accelerate",
    "peft",
    "pytorch_metric_learning",
    "torch",
    "transformers",
    "pymilvus",
    "milvus_lite",
    "faiss",
    "matplotlib",
    "pandas",
    "pyarrow",
    "rawpy",
    "huggingface_hub",
    "openvino",
    "onnxruntime",
    "onnx",
    "PIL",
}


# Modules of an engine that others may import: data only.
LIGHT = ("stores.milvus.index_types",)
# Modules that import heavy libraries, and so are imported within functions only.
ON_DEMAND = ("models.learning_trainer",)
# And where it is needed: the language of filters, the same for all engines.
NAMED = ("stores.milvus.lite_expressions",)


@dataclass(frozen=True)
class Import:
    """One imported module: who imports it, in which line, and whether importing the importer runs it."""

    importer: str
    imported: str
    line: int
    at_import: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@functools.cache
def modules() -> dict[str, Path]:
    """Name without the package's -> file; a folder's __init__ is named like the folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports_of(name: str, path: Path) -> Iterator[Import]:
    known = modules()

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, child.lineno, at_import)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: relative import"
                for alias in child.names:
                    submodule = f"{child.module}.{alias.name}"
                    is_module = submodule.removeprefix("imagesearch.") in known
                    yield Import(name, submodule if is_module else str(child.module), child.lineno, at_import)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                # Types may be named from anywhere below, so the order counts, but nothing is run.
                for statement in child.body:
                    yield from visit(ast.Module([statement], []), False)
            else:
                is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from visit(child, at_import and not is_function)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


@functools.cache
def all_imports() -> list[Import]:
    """Of every module; not while tests are collected, which every process does."""
    return [entry for name, path in modules().items() for entry in imports_of(name, path)]


def place(module: str) -> tuple[int, int]:
    """Level and line of a module in the house."""
    for level, rooms in enumerate(HOUSE):
        for line, pattern in enumerate(rooms):
            if fnmatch.fnmatchcase(module, pattern):
                return level, line
    raise LookupError(module)


def test_the_parser_sees_imports_inside_functions() -> None:
    """Otherwise every test below would pass on an empty list."""
    seen = {(entry.importer, entry.imported.partition(".")[0], entry.at_import) for entry in all_imports()}
    assert ("models.network", "transformers", False) in seen
    assert ("search.query", "numpy", True) in seen
    assert ("service", "imagesearch", False) in seen


def test_every_module_has_its_place() -> None:
    def homeless(name: str) -> bool:
        try:
            place(name)
        except LookupError:
            return True
        return False

    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert [name for name in modules() if name not in packages and homeless(name)] == []


def test_every_place_is_a_modules() -> None:
    patterns = [pattern for rooms in HOUSE for pattern in rooms]
    assert [pattern for pattern in patterns if not fnmatch.filter(modules(), pattern)] == []


def test_packages_hold_no_code() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py":
            statements = ast.parse(path.read_text(encoding="utf-8")).body
            code = [node for node in statements if not isinstance(node, ast.Expr)]
            assert not code, f"{name}/__init__.py has code; importing a neighbour would run it"


def test_lower_levels_never_import_higher_ones() -> None:
    wrong = []
    for entry in all_imports():
        target = entry.imported.removeprefix("imagesearch.")
        if target == entry.imported:  # another package, or this package's own front door
            continue
        (level, line), (to_level, to_line) = place(entry.importer), place(target)
        same_folder = entry.importer.rpartition(".")[0] == target.rpartition(".")[0]
        free_order = "*" in HOUSE[level][line]
        if to_level > level or (to_level == level and same_folder and to_line >= line and not free_order):
            wrong.append(str(entry))
    assert not wrong


def test_neighbouring_folders_of_a_level_do_not_know_each_other() -> None:
    """Except that stored paths are written as images.paths writes them, and that an engine knows the contracts."""
    wrong = []
    for entry in all_imports():
        target = entry.imported.removeprefix("imagesearch.")
        if target == entry.imported or target == "images.paths":
            continue
        folders = entry.importer.rpartition(".")[0], target.rpartition(".")[0]
        is_inside = folders[0].startswith(f"{folders[1]}.")
        if (
            place(entry.importer)[0] == place(target)[0]
            and all(folders)
            and folders[0] != folders[1]
            and not is_inside
        ):
            wrong.append(str(entry))
    assert not wrong


def test_nobody_below_the_front_ends_uses_the_front_door() -> None:
    """``import imagesearch`` from inside would make a circle."""
    assert not [
        str(e) for e in all_imports() if e.imported == "imagesearch" and not e.importer.startswith("frontends.")
    ]


@pytest.mark.parametrize("vendor", OWNERS)
def test_one_importer_per_vendor(vendor: str) -> None:
    wrong = [
        str(entry)
        for entry in all_imports()
        if entry.imported.partition(".")[0] == vendor
        and not any(fnmatch.fnmatchcase(entry.importer, owner) for owner in OWNERS[vendor].split())
    ]
    assert not wrong


def test_errors_import_nothing() -> None:
    assert [str(e) for e in all_imports() if e.importer == "errors" and e.imported != "__future__"] == []


def is_opened_by_name(module: str) -> bool:
    """Whether it belongs to the embedded engine, which is imported when a database of it is opened."""
    return fnmatch.fnmatchcase(module, "stores.milvus.*") and module not in LIGHT


def test_nothing_heavy_at_import() -> None:
    wrong = [
        str(entry)
        for entry in all_imports()
        if entry.at_import
        and (entry.imported.partition(".")[0] in HEAVY or entry.imported.removeprefix("imagesearch.") in ON_DEMAND)
        and not is_opened_by_name(entry.importer)
        and entry.importer not in ON_DEMAND
    ]
    assert not wrong


def test_engines_are_imported_by_name_only() -> None:
    """The registry names their modules: nobody else knows them, and what they import costs no other command."""
    wrong = [
        str(entry)
        for entry in all_imports()
        if is_opened_by_name(entry.imported.removeprefix("imagesearch."))
        and not is_opened_by_name(entry.importer)
        and (entry.at_import or entry.imported.removeprefix("imagesearch.") not in NAMED)
    ]
    assert not wrong


def test_importing_the_service_loads_nothing_heavy() -> None:
    program = "import imagesearch.service, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert "pydantic" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_of_it() -> None:
    program = "import imagesearch, sys; print(*[name for name in sys.modules if name.startswith('imagesearch')])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["imagesearch"]


def test_only_front_ends_print_and_exit() -> None:
    wrong = []
    for name, path in modules().items():
        if name.startswith("frontends") or name == "__main__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("print", "input", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write"):
                wrong.append(f"{name}:{node.lineno} calls {called}")
        if "SystemExit" in path.read_text(encoding="utf-8"):
            wrong.append(f"{name} mentions SystemExit")
    assert not wrong


def test_there_is_no_drawer_for_everything() -> None:
    assert not [name for name in modules() if name.rpartition(".")[2] in ("utils", "helpers", "common", "misc")]
