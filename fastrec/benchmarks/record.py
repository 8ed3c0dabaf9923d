"""A run as plain values: what ``--json`` writes, and all that the tables and the page are drawn from."""

from __future__ import annotations

import math
import platform
from datetime import UTC, datetime
from typing import Any

from fastrec._core import info
from fastrec.benchmarks import peers as peer_libraries
from fastrec.benchmarks.harness import Lab, Result, Timing
from fastrec.benchmarks.roofs import Roofs

SCHEMA = "fastrec-bench/1"


def record(results: list[Result], roofs: Roofs, lab: Lab, *, seconds: float) -> dict[str, Any]:
    """The whole run: machine, settings, roofs, and every case with its verdicts, times, rates and shares."""
    details = info.info()
    details.pop("gpu", None)
    return {
        "schema": SCHEMA,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": {**details, "system": platform.system()},
        "settings": {"threads": lab.threads, "seed": lab.seed, "scale": lab.scale, "peers": lab.peers.names},
        "peers": {
            "versions": lab.peers.versions(),
            "broken": lab.peers.broken,
            "pools": peer_libraries.pools(),
        },
        "roofs": roofs.as_dict(),
        "peak_rss_bytes": peak_rss(),
        "cases": [_case(result, roofs) for result in results],
    }


def _case(result: Result, roofs: Roofs) -> dict[str, Any]:
    plan, best = result.plan, result.best_peer
    return {
        "name": plan.name,
        "verb": plan.verb,
        "title": plan.title,
        "real_data": plan.real_data,
        "shape": result.shape,
        "work": {
            "operations": result.work.operations,
            "bytes": result.work.bytes,
            "random_bytes": result.work.random_bytes,
            "count": result.work.count,
            "unit": result.work.unit,
        },
        "status": "skipped" if result.skipped else "failed" if result.failure else "done",
        "reason": result.skipped or result.failure,
        "seconds": round(result.seconds, 2),
        "ratio_to_best_peer": result.ratio,
        "best_peer": best.name if best else None,
        "contenders": [_timing(timing, result, roofs) for timing in result.timings],
        "findings": [
            {"title": f.title, "columns": f.columns, "rows": [list(map(_plain, row)) for row in f.rows],
             "conclusion": f.conclusion}
            for f in result.findings
        ],
    }  # fmt: skip


def _timing(timing: Timing, result: Result, roofs: Roofs) -> dict[str, Any]:
    low, high = timing.quartiles
    ours = result.ours
    timed = bool(timing.samples)
    return {
        "name": timing.name,
        "peer": timing.peer,
        "agrees": timing.verdict.agrees,
        "answer": timing.verdict.text,
        "note": timing.note,
        "median_s": timing.median if timed else None,
        "quartiles_s": [low, high] if timed else None,
        "samples_s": timing.samples,
        "calls_per_sample": timing.calls,
        "times_ours": timing.median / ours.median
        if timed and timing is not ours and ours is not None and ours.samples
        else None,
        "rate_per_s": result.work.count / timing.median if timed and result.work.count else None,
        "share_of_roof": result.shares(timing, roofs),
        "extra_bytes": timing.extra_bytes,
    }


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own; NaN, which JSON lacks, as ``None``."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def peak_rss() -> int | None:
    """The most memory that this process has held, in bytes, where the platform tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


# ------------------------------------------------------------------------------------------------- in human units


def seconds_text(seconds: float | None) -> str:
    """Three digits and a unit: ``12.3 ms``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            return f"{digits(seconds / scale)} {unit}"
    raise AssertionError  # the last unit takes everything


def digits(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rate_text(rate: float | None, unit: str) -> str:
    """``1.23 Gscores/s``."""
    if not rate:
        return "-"
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)):
        if rate >= scale or not prefix:
            return f"{digits(rate / scale)} {prefix}{unit}/s"
    raise AssertionError  # the last prefix takes everything


def bytes_text(count: float | None) -> str:
    """``12.3 MB``, decimal."""
    if count is None:
        return "-"
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{digits(count / 1e9)} GB" if count >= 1e9 else f"{digits(count / 1e6)} MB"


def share_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def shape_text(shape: dict[str, Any]) -> str:
    """``Q=1,024 N=100,000 d=64``."""
    return "  ".join(
        f"{name}={value:,}" if isinstance(value, int) else f"{name}={value}" for name, value in shape.items()
    )


def value_text(value: Any) -> str:
    """A cell of a finding."""
    if value is None:
        return "-"
    return (
        f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def ratio_text(ratio: float | None) -> str:
    """``6.1x``, fastrec faster; ``0.80x``, the peer faster."""
    return (
        "-"
        if ratio is None
        else f"{ratio:.0f}x"
        if ratio >= 100
        else f"{ratio:.1f}x"
        if ratio >= 1.05
        else f"{ratio:.2f}x"
    )


def machine_lines(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader must know to compare with another machine."""
    machine, settings, roofs = run["machine"], run["settings"], run["roofs"]
    versions = run["peers"]["versions"]
    lines = [
        ("processor", machine["processor"]),
        ("instruction set", f"{machine['isa']['active']} (usable: {', '.join(machine['isa']['usable'])})"),
        ("threads", f"{settings['threads']} for every contender"),
        ("fastrec", f"{machine['fastrec']}, Python {machine['python']}, {machine['platform']}"),
        ("peers", ", ".join(f"{name} {found}" for name, found in versions.items()) or "none"),
        (
            "measured roofs",
            f"fp32 {digits(roofs['fp32'])} GFLOP/s, int8 {digits(roofs['int8'])} GOP/s, "
            f"reads {digits(roofs['read'])} GB/s, random 256-byte reads {digits(roofs['random'])} GB/s, "
            f"of NumPy's rows {digits(roofs['rows'])} GB/s",
        ),
        (
            "on one thread",
            f"fp32 {digits(roofs['single']['fp32'])} GFLOP/s, int8 {digits(roofs['single']['int8'])} GOP/s, "
            f"reads {digits(roofs['single']['read'])} GB/s, random {digits(roofs['single']['random'])} GB/s, "
            f"NumPy's rows {digits(roofs['single']['rows'])} GB/s",
        ),
        (
            "by instruction set",
            "; ".join(
                f"{name}: fp32 {digits(rates['fp32'])}, int8 {digits(rates['int8'])}"
                for name, rates in roofs["by_isa"].items()
            ),
        ),
    ]
    pools = [
        f"{pool.get('internal_api', pool.get('prefix', '?'))} {pool.get('version') or ''}".strip()
        for pool in run["peers"]["pools"]
    ]
    if pools:
        lines.append(("BLAS and OpenMP", ", ".join(dict.fromkeys(pools))))
    if run["peers"]["broken"]:
        lines.append(("broken peers", "; ".join(f"{n}: {why}" for n, why in run["peers"]["broken"].items())))
    return lines
