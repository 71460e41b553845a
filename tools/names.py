"""Fail on functions whose names are no verbs, and on docstrings that are fragments: `names.py [FOLDER...]`.

A function's name begins with a verb of `verbs.txt` (`read_rows`), a predicate (`is_empty`, `fits`) or a
preposition of a conversion (`to_message`, `from_row`, `as_dict`). Its docstring opens with a verb ("Reads the
rows.", "Read the rows.") or with a whole sentence ("The log has grown."). The docstrings of classes and
modules open with anything but the word of a subordinate clause.

Exempt are tests and fixtures, properties, methods that Python, gRPC or a foreign base class names, commands
of the command line, and the names in `ALLOWED`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "server", "miner", "trainer", "cli", "tools")
GENERATED = ("/v1/", "/migrations/")
OWN = ("quarry", "quarry_server", "quarry_miner", "quarry_trainer", "quarry_cli", "typing")


def split_words(text: str) -> set[str]:
    return set(text.split())


# A star in verbs.txt marks a verb whose third person is a plural noun as well: "ranks".
WORDS = (Path(__file__).parent / "verbs.txt").read_text().split()
VERBS = {word.rstrip("*") for word in WORDS}
PREDICATES = split_words(
    "is has can may does fits matches needs holds allows lacks knows sees loses exists accepts contains "
    "depends requires resembles overlaps says"
)
PREPOSITIONS = {"to", "from", "as", "with", "on"}

OPENS_A_CLAUSE = split_words("of what whether as by why how where which whose that who when if because until")
SECTIONS = {"Args", "Attributes", "Raises"}
AUXILIARIES = split_words("is are was were has have had can cannot could may might must does do will would")
ENDS_A_NOUN = split_words("that which whose with in and or for from")

# Names that something else gives: why they are no verbs.
ALLOWED = {
    "pages": "the client's iterator over the pages of any list, documented by that name",
    "model_validate_json": "pydantic.BaseModel",
    "unary_unary": "gRPC's generated stubs ask a channel for it",
    "unary_stream": "gRPC's generated stubs ask a channel for it",
    "future": "grpc.UnaryUnaryMultiCallable",
    "result": "grpc.Future",
    "exception": "grpc.Future",
    "done_writing": "grpc.aio.StreamStreamCall",
    "fileno": "what a selector watches",
    "config": "the command `quarry config`",
    "demo": "the command `quarry demo`",
    "doctor": "the command `quarry doctor`",
    "loop": "the command `quarry loop`",
}

_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def main(folders: list[str]) -> int:
    problems = [
        problem for path in list_modules(folders) for problem in check((ROOT / path).read_text(), str(path))
    ]
    print(*problems, sep="\n" if problems else "")
    return bool(problems)


def list_modules(folders: list[str]) -> list[Path]:
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path.relative_to(ROOT) for path in found if not any(part in str(path) for part in GENERATED)]


def check(source: str, path: str) -> list[str]:
    """Says what is wrong with the names and docstrings of a module, a line each."""
    tree = ast.parse(source)
    foreign = find_foreign_names(tree)
    problems = []
    for node, owner in walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not is_exempt(node, owner, foreign) and not is_verb(node.name):
                problems.append(f"{path}:{line}: {node.name} begins with no verb of tools/verbs.txt")
            if is_property(node) or is_command(node) or is_test(node):
                continue
        text = ast.get_docstring(node)
        if text and is_fragment(text, isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            problems.append(f"{path}:{line}: a fragment, not a sentence: {text.splitlines()[0]}")
    return problems


def walk(node: ast.AST, owner: ast.ClassDef | None = None) -> Iterator[tuple[_Node, ast.ClassDef | None]]:
    """Yields the module, its classes and its functions, each with the class that it is a method of."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node, owner
        owner = node if isinstance(node, ast.ClassDef) else None
    for child in ast.iter_child_nodes(node):
        yield from walk(child, owner)


def find_foreign_names(tree: ast.Module) -> set[str]:
    """Finds what the module imports from other projects."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in OWN:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def is_exempt(
    node: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef | None, foreign: set[str]
) -> bool:
    name = node.name
    if name in ALLOWED or name == "main" or not name.strip("_") or is_property(node):
        return True
    if name.startswith("__") or name[0].isupper():  # Python's methods, and gRPC's
        return True
    if is_command(node) or is_test(node):
        return True
    bases = {ast.unparse(base).split(".")[0].split("[")[0] for base in owner.bases} if owner else set()
    return not name.startswith("_") and bool(bases & foreign)


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(one).endswith("property") for one in node.decorator_list)


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tells whether typer reads the function: its name is typed, and its docstring is printed as help."""
    return any(re.search(r"\.(command|callback)\b", ast.unparse(one)) for one in node.decorator_list)


def is_test(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tells whether pytest reads the function: a test, whose name is a statement, or a fixture, a thing."""
    return node.name.startswith("test_") or any("fixture" in ast.unparse(one) for one in node.decorator_list)


def is_verb(name: str) -> bool:
    return name.strip("_").split("_")[0] in VERBS | PREDICATES | PREPOSITIONS


def is_fragment(text: str, of_function: bool) -> bool:
    """Tells whether a docstring opens with neither a verb nor a whole sentence."""
    sentence = re.split(r"[.:;](?=\s|$)", text, maxsplit=1)[0]
    words = re.findall(r"[\w'`.-]+", sentence)
    if not words or words[0].lower() in OPENS_A_CLAUSE or sentence in SECTIONS:
        return True
    if not of_function or is_verb_first(words):
        return False
    for word in words[1:]:
        if word in OPENS_A_CLAUSE:
            return True
        base = find_base(word)
        if word in AUXILIARIES or (base and f"{base}*" not in WORDS):
            return False
    return True


def is_verb_first(words: list[str]) -> bool:
    first, following = words[0].lower(), words[1] if len(words) > 1 else ""
    base = first if first in VERBS else find_base(first)
    if not base or following == "of":
        return False
    return f"{base}*" not in WORDS or following not in ENDS_A_NOUN


def find_base(word: str) -> str:
    """Finds the verb that a word is the third person of; empty if it is none."""
    for ending, instead in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending) and word.removesuffix(ending) + instead in VERBS:
            return word.removesuffix(ending) + instead
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(FOLDERS)))
