"""Whether all copies of a run's metadata say the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from acquire.errors import StoreError
from acquire.store.documents import read_header, read_report
from acquire.store.keeping.inspect import OWN, Document, Finding, Severity, StoredArray, Tree
from acquire.store.layout import METADATA_NAME, ZARR_NAME


def check_root(
    tree: Tree, attributes: Mapping[str, Any], *, closed: bool, live: bool
) -> list[Finding]:
    """Check the root's own metadata: what they hold, and whether they tell how the run ended."""
    where = f"{ZARR_NAME}/{METADATA_NAME}"
    if OWN not in tree.documents.get("", {}):
        if any(path == METADATA_NAME for path, _ in tree.problems):
            return []
        return [Finding("damage", where, "is missing")]
    try:
        read_header(attributes, tree.root)
        read_report(attributes, tree.root)
    except (StoreError, KeyError, TypeError, ValueError) as error:
        return [Finding("damage", where, f"header or report cannot be read: {error}")]
    if live:
        return [Finding("note", ZARR_NAME, "the run is still being written")]
    if not closed:
        text = "the run was cut off: its writer is dead; `hotstage recover` closes it"
        return [Finding("note", ZARR_NAME, text)]
    return []


def check_copies(tree: Tree, *, settled: bool) -> list[Finding]:
    """Whether all copies of a node's metadata say the same, and all of a group one length."""
    findings: list[Finding] = []
    severity: Severity = "damage" if settled else "note"
    lag: dict[str, int] = {}
    for path, copies in tree.documents.items():
        if not path:
            continue
        where = f"{ZARR_NAME}/{path}"
        if OWN not in copies and not any(w == f"{path}/{METADATA_NAME}" for w, _ in tree.problems):
            findings.append(Finding("damage", where, f"its {METADATA_NAME} is missing"))
        if "" not in copies:
            findings.append(Finding(severity, where, "the root's metadata do not know it"))
        if not copies:
            continue
        strict = [_comparable(d, strictly=True) for d in copies.values()]
        if all(d == strict[0] for d in strict):
            continue
        loose = [_comparable(d, strictly=False) for d in copies.values()]
        if settled or any(d != loose[0] for d in loose):
            findings.append(Finding("damage", where, "copies of its metadata differ"))
        else:
            group = path.rpartition("/")[0] if tree.is_array(path) else path
            lag[group] = lag.get(group, 0) + 1
    findings += [
        Finding("note", f"{ZARR_NAME}/{group}", f"copies of its metadata lag behind ({count})")
        for group, count in lag.items()
    ]
    for group in tree.groups():
        for source in {s for n in tree.names(group) for s in tree.documents[f"{group}/{n}"]}:
            if source == OWN and not settled:
                continue  # files of single arrays follow one after the other
            lengths = {
                int(copies[source]["shape"][0])
                for name in tree.names(group)
                if source in (copies := tree.documents[f"{group}/{name}"])
                and StoredArray(tree.root, name, copies[source]).grows
            }
            if len(lengths) > 1:
                text = f"its arrays are of different lengths: {sorted(lengths)}"
                findings.append(Finding("damage", f"{ZARR_NAME}/{group}", text))
                break
    findings += [
        Finding("note", f"{ZARR_NAME}/{path}", "was never published: no metadata describe it")
        for path in tree.strays
    ]
    return findings


def _comparable(document: Document, *, strictly: bool) -> str:
    """What copies of a document must agree in; loosely: all but what changes while a run goes on."""
    kept = {k: v for k, v in document.items() if k != "consolidated_metadata"}
    if not strictly:
        kept["shape"] = list(kept.get("shape", [0]))[1:]
        kept["attributes"] = (
            {k: v for k, v in kept["attributes"].items() if not k.startswith("flag_")}
            if document.get("node_type") == "array"
            else {}
        )
    return json.dumps(kept, sort_keys=True)
