"""Runs: the index of part-files. Design: docs/decisions/003-runs.md.

``entries`` are the arrays in memory, ``merge`` merges them, ``file`` is the run on disk with single look-ups, ``find`` looks a batch up,
``read`` and ``read_few`` read and check the records.

The invariant: **a commit that writes a record writes all records whose keys have the same 128-bit hash, into the same part-file.** So the
newest run with a hash has every live record of that hash, and older entries of it are superseded, even where different keys collide. A
stage maintains the invariant by looking up the *hashes* of its keys and rewriting every record that it finds, whichever key the record has.
Merging tiers and dropping entries by hash preserve it.
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
