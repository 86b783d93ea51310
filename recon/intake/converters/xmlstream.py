"""Reads XML element by element, in the memory of one element, without entities, document types and network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from recon.errors import WrongInput
from recon.intake.files.formats import one_line

Steps: TypeAlias = "dict[str, tuple[str, Steps]]"
"""Local name → the path that ends with it, and the steps below."""


def elements(name: str, stream: Any, tags: Collection[str]) -> Iterator[tuple[str, Any]]:
    """("start" or "end", element) of the elements with a local name in ``tags``, in order. An element is complete at its end, and is freed
    when the next one is asked for, with all before it. Raises WrongInput, with the line, for XML that is damaged or declares a document
    type: entities are how XML expands without end, or reads other files."""
    from lxml import etree

    wanted = [f"{{*}}{tag}" for tag in tags]
    try:
        parser = etree.iterparse(
            stream,
            events=("start", "end"),
            tag=wanted,
            remove_comments=True,  # a text would end where a comment begins
            remove_pis=True,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        checked = False
        for event, element in parser:
            if not checked:
                _refuse_doctype(name, element)
                checked = True
            yield event, element
            if event == "end":
                _free(element)
        if not checked and parser.root is not None:
            _refuse_doctype(name, parser.root)
    except etree.XMLSyntaxError as error:
        raise WrongInput(f"{name}: not well-formed XML ({one_line(error)}); transfer the file again") from None


def _refuse_doctype(name: str, element: Any) -> None:
    if element.getroottree().docinfo.internalDTD is not None:
        raise WrongInput(f"{name}: line {element.sourceline}: a document type (DOCTYPE) is not accepted; write the file without it")


def _free(element: Any) -> None:
    element.clear(keep_tail=False)
    while element.getprevious() is not None:
        del element.getparent()[0]


def local(element: Any) -> str:
    """The name without its namespace; "" for comments and instructions."""
    return _bare(element.tag)


@lru_cache(1024)
def _bare(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """An attribute by its local name."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return None


def children(element: Any, *path: str) -> list[Any]:
    """The elements at a path of local names below ``element``."""
    found = [element]
    for name in path:
        found = [child for parent in found for child in parent if local(child) == name]
    return found


def text_at(element: Any, *path: str) -> str | None:
    """The text of the first element at ``path``, stripped; None if there is none, or it is empty."""
    for found in children(element, *path):
        text = "".join(found.itertext()).strip()
        if text:
            return text
    return None


def steps(paths: Iterable[str]) -> Steps:
    """Paths of local names, joined by slashes, for ``elements_at``."""
    first: Steps = {}
    for path in paths:
        names, below = path.split("/"), first
        for place, name in enumerate(names, 1):
            _, below = below.setdefault(name, ("/".join(names[:place]), {}))
    return first


def elements_at(element: Any, wanted: Steps) -> dict[str, list[Any]]:
    """The elements at these paths below ``element``, and those above them, by path and in order. All others are not looked at."""
    found: dict[str, list[Any]] = {}
    _find(element, wanted, found)
    return found


def _find(element: Any, wanted: Steps, found: dict[str, list[Any]]) -> None:
    for child in element:
        step = wanted.get(_bare(child.tag))
        if step is not None:
            path, below = step
            found.setdefault(path, []).append(child)
            if below:
                _find(child, below, found)
