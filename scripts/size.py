"""How large the package is: code lines per part, and in all, against the budget.

A code line is a line that holds code: blank lines, comments and docstrings cost nothing, since nobody should save on
them. `python scripts/size.py [FOLDER]` prints the table; `tests/tidy` fails when the budget is exceeded.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[1] / "src" / "antiphon"
CODE_LINES_MAX: Final = 32_000

_NO_CODE: Final = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
)


def code_lines(source: str) -> int:
    """The lines of a Python file that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(ast.parse(source)))


def sizes(package: Path = PACKAGE) -> dict[str, int]:
    """Code lines by file, the path relative to the package."""
    files = sorted(package.rglob("*.py"))
    return {str(file.relative_to(package)): code_lines(file.read_text(encoding="utf-8")) for file in files}


def _docstring_lines(tree: ast.Module) -> set[int]:
    """Also the strings below an attribute or an alias, which document it."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def main(folder: Path) -> None:
    """Prints the table."""
    parts: Counter[str] = Counter()
    for path, lines in sizes(folder).items():
        parts[path.partition("/")[0] + ("/" if "/" in path else "")] += lines
    for part, lines in parts.most_common():
        print(f"{lines:7,}  {part}")
    print(f"{parts.total():7,}  in all, of {CODE_LINES_MAX:,} code lines allowed")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
