"""The words of the field are explained in one place: help takes them from there and doesn't say them anew."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import glossary

APP = Path(__file__).parents[2] / "app"
#: how a definition of a term would begin, or what only a definition says
DEFINES = {
    "CED": r"conditional entropy|how far the entropy moves",
    "ΔH": r"signed change of entropy",
    "FID": r"fréchet inception|compare what a network sees|cloud of",
    "KID": r"kernel inception",
    "MACs": r"multiply-accumulate|multiplications",
    "NTK": r"neural tangent|condition number of",
    "ZiCo": r"gradients agree",
    "guidance": r"classifier-free|towards the class",
    "sampler": r"how noise becomes",
    "seed": r"starting noise is made|noise was made from",
    "distillation": r"matching the intact|as the intact (one|model) does",
    "interval": r"holds the true value|90 of 100",
    "noise floor": r"real pictures score against",
    "EMA": r"running average",
    "diffusion": r"trained to tell the noise",
    "flow matching": r"direction (that leads )?from noise",
    "block": r"transformer blocks, one after",
}
USED_BY_HELP = (
    "CED",
    "FID",
    "KID",
    "MACs",
    "NTK",
    "ZiCo",
    "block",
    "guidance",
    "noise level",
    "interval",
    "distillation",
)


def texts_of_help() -> Iterator[tuple[str, str]]:
    """(where, words) of what pages write into help themselves: ``help=``, functions that take it, and tables of it."""
    for file in sorted(APP.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            found: list[ast.AST] = []
            if isinstance(node, ast.Call):
                found = [keyword.value for keyword in node.keywords if keyword.arg == "help"]
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found += node.args if name in ("guarded", "_number", "_choose") else []
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("_HELP", "VOTERS"):
                found = [node.value]
            for part in found:
                words = " ".join(
                    one.value for one in ast.walk(part) if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )
                yield f"{file.relative_to(APP)}:{part.lineno}", words


def names_asked_for() -> Iterator[tuple[str, str]]:
    for file in sorted(APP.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or file.name == "glossary.py":
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("explain", "term"):
                yield from ((str(file.relative_to(APP)), one.value) for one in node.args if hasattr(one, "value"))


def test_what_pages_ask_for_is_in_the_glossary() -> None:
    asked = list(names_asked_for())
    assert len({file for file, _ in asked}) >= 10  # the check sees the calls
    assert not [(file, name) for file, name in asked if name not in glossary.TERMS]
    assert not [name for name in USED_BY_HELP if name not in glossary.TERMS]


def test_no_help_explains_a_term_in_its_own_words() -> None:
    texts = list(texts_of_help())
    assert len(texts) > 150
    again = [
        f"{where} explains {name}: {words[:90]}"
        for where, words in texts
        for name, pattern in DEFINES.items()
        if re.search(pattern, words, re.IGNORECASE)
    ]
    assert not again


def test_no_help_repeats_a_sentence_of_the_glossary() -> None:
    """Six words in a row, copied instead of asked for."""
    runs = {}
    for name, about in glossary.TERMS.items():
        words = re.findall(r"\w+", about.lower())
        runs |= {" ".join(words[i : i + 6]): name for i in range(len(words) - 5)}
    copied = []
    for where, text in texts_of_help():
        words = re.findall(r"\w+", text.lower())
        copied += [(where, runs[six]) for i in range(len(words) - 5) if (six := " ".join(words[i : i + 6])) in runs]
    assert not copied


@pytest.mark.parametrize("name", DEFINES)
def test_the_glossary_itself_would_be_caught(name: str) -> None:
    """Each pattern finds the explanation that it stands for, so that it isn't a pattern of nothing."""
    own = {"CED", "ΔH", "FID", "KID", "MACs", "NTK", "ZiCo", "guidance", "interval", "noise floor", "EMA"}
    assert name in glossary.TERMS
    assert name not in own or re.search(DEFINES[name], glossary.term(name), re.IGNORECASE)


def test_an_explanation_names_its_term() -> None:
    assert glossary.explain("seed", "CED").startswith("Seed: The number that")
    assert " CED: Conditional entropy deviation" in glossary.explain("seed", "CED")
    with pytest.raises(KeyError):
        glossary.explain("a thing nobody explained")
