"""The forms of part-files' records: read from a part-file's head once, then remembered."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from recon.model.form import HEAD, Form, head_bytes, read_head, refuse_json_lines
from recon.storage import documents
from recon.storage.port import ObjectStore

REMEMBERED_MAX = 1024
"""Part-files of a store whose forms are remembered."""

_known: WeakKeyDictionary[ObjectStore, dict[str, Form]] = WeakKeyDictionary()
_lock = threading.Lock()


def head_of_part(store: ObjectStore, part_file: str) -> bytes:
    """The bytes of a part-file's head; its first record begins after them. Raises NotFound, JsonLines and Damaged."""
    return _read(store, part_file)[0]


def form_of_part(store: ObjectStore, part_file: str) -> Form:
    """The form of a part-file's records. Raises NotFound, JsonLines and Damaged."""
    with _lock:
        forms = _known.setdefault(store, {})
        found = forms.get(part_file)
    if found is None:
        _, found = _read(store, part_file)
        with _lock:
            forms[part_file] = found
            while len(forms) > REMEMBERED_MAX:
                del forms[next(iter(forms))]
    return found


def _read(store: ObjectStore, part_file: str) -> tuple[bytes, Form]:
    refuse_json_lines(part_file)
    with documents.damaged(part_file, documents.RESTORE):
        head = store.get_range(part_file, 0, head_bytes(store.get_range(part_file, 0, HEAD.size)))
        return head, read_head(head)
