"""The index of part-files, by decision 003: which rooms it has, and the names that others use.

Belongs here: nothing but the door. Entries: ``runs_entries``. Their merging: ``runs_merge``. The file and
single look-ups: ``runs_file``. Look-ups of a batch: ``runs_find``. Reading and checking the records that were found: ``runs_records``,
``runs_few``.

What "the newest run wins" rests on, the invariant: **a commit that writes a record writes all records whose keys have
the same 128-bit hash, into the same part-file.** So the newest run that holds a hash holds every live record of it, and
what older runs hold of it is superseded, whether or not different keys collide. A stage keeps it by looking up the
*hashes* of its keys and taking along every record it finds, whichever key that record has. It holds through merging of
tiers, and through any dropping of entries that goes by hash.
"""

from __future__ import annotations

from recon.model.record import RecordAddress
from recon.state.runs.entries import ENTRY_BYTES, Entries, choose_tiers, entries_of
from recon.state.runs.file import Run, merged_plan, open_run, open_runs, write_columns, write_merged, write_run
from recon.state.runs.find import RecordAddresses, among, find_many
from recon.state.runs.merge import MergedPiece, MergePlan, merge_entries
from recon.state.runs.read import check_of, checks_of, read_record, read_records
from recon.state.runs.read_few import read_few

__all__ = [
    "ENTRY_BYTES",
    "Entries",
    "MergePlan",
    "MergedPiece",
    "RecordAddress",
    "RecordAddresses",
    "Run",
    "among",
    "check_of",
    "checks_of",
    "choose_tiers",
    "entries_of",
    "find_many",
    "merge_entries",
    "merged_plan",
    "open_run",
    "open_runs",
    "read_few",
    "read_record",
    "read_records",
    "write_columns",
    "write_merged",
    "write_run",
]
