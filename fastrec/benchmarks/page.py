"""A run as one self-contained page: plots drawn as SVG, no script, no font, nothing fetched, light and dark."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from fastrec.benchmarks import record
from fastrec.benchmarks.harness import OURS, SAMPLE_SECONDS, SETTLE_SECONDS, VERBS
from fastrec.benchmarks.tables import WHAT

WIDTH = 920
ROW = 26


def render(run: dict[str, Any]) -> str:
    """The page of a run's record."""
    template = string.Template(files("fastrec.benchmarks").joinpath("page.html").read_text(encoding="utf-8"))
    settings = run["settings"]
    return template.substitute(
        title=f"fastrec bench, {run['finished'][:10]}",
        subtitle=escape(
            f"{run['finished'].replace('T', ' ')}, {settings['scale']} sizes, {settings['threads']} threads, "
            f"seed {settings['seed']}, {run['seconds']:.0f} s"
        ),
        figures=_figures(run),
        machine="".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in record.machine_lines(run)
        ),
        problems=_problems(run["cases"]),
        overview=_overview(run["cases"]),
        roofline=_roofline(run),
        verbs="".join(_verb(verb, [case for case in run["cases"] if case["verb"] == verb]) for verb in VERBS),
        settle=f"{SETTLE_SECONDS * 1e3:.0f}",
        sample=f"{SAMPLE_SECONDS * 1e3:.0f}",
    )


# ------------------------------------------------------------------------------------------------------- sections


def _figures(run: dict[str, Any]) -> str:
    cases = run["cases"]
    done = [case for case in cases if case["status"] == "done"]
    failed = [case for case in cases if case["status"] == "failed"]
    ratios = sorted(case["ratio_to_best_peer"] for case in done if case["ratio_to_best_peer"])
    blocks = [
        (f"{len(done)} of {len(cases)}", "cases done" if not failed else f"cases done, {len(failed)} failed")
    ]
    if ratios:
        middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
        blocks += [
            (record.ratio_text(middle), "geometric mean of best peer's time over fastrec's"),
            (f"{sum(r >= 1 for r in ratios)} of {len(ratios)}", "comparisons in which fastrec is faster"),
        ]
    if run["peak_rss_bytes"]:
        blocks.append((record.bytes_text(run["peak_rss_bytes"]), "peak memory of the whole run"))
    return "".join(f"<div><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in blocks)


def _problems(cases: list[dict[str, Any]]) -> str:
    lines = [
        f'<p class="{"bad" if case["status"] == "failed" else "warn"}"><b>{escape(case["name"])}</b> '
        f"{case['status']}: {escape(case['reason'])}</p>"
        for case in cases
        if case["status"] != "done"
    ]
    return f'<div class="card">{"".join(lines)}</div>' if lines else ""


def _verb(verb: str, cases: list[dict[str, Any]]) -> str:
    shown = [case for case in cases if case["contenders"]]
    if not shown:
        return ""
    return f"<h2>{verb}: {escape(WHAT[verb])}</h2>" + "".join(_case(case) for case in shown)


def _case(case: dict[str, Any]) -> str:
    ratio = case["ratio_to_best_peer"]
    verdict = ""
    if ratio is not None:
        css = "ours" if ratio >= 1 else "bad"
        words = f"{record.ratio_text(ratio)} the speed of {case['best_peer']}"
        verdict = f'<span class="verdict {css}">{escape(words)}</span>'
    return (
        f'<div class="card"><div class="head"><h3>{escape(case["title"])}</h3>{verdict}</div>'
        f'<p class="soft">{escape(case["name"])} &nbsp; {escape(record.shape_text(case["shape"]))}</p>'
        f"{_times(case)}{_table(case)}{''.join(map(_finding, case['findings']))}</div>"
    )


def _table(case: dict[str, Any]) -> str:
    heads = ["", "median", "spread", "fastrec is", "rate", "fp32", "int8", "memory", "extra RAM"]
    rows = []
    for timing in _fastest_first(case["contenders"]):
        ours, shares = timing["peer"] == OURS, timing["share_of_roof"]
        low, high = timing["quartiles_s"] or (None, None)
        ratio = timing["times_ours"]  # none on the row that the others are compared with
        cells = [
            escape(timing["name"])
            + (f' <span class="soft">{escape(timing["note"])}</span>' if timing["note"] else ""),
            record.seconds_text(timing["median_s"]),
            "-" if low is None else f"±{(high - low) / 2 / timing['median_s']:.0%}",
            ""
            if ours and ratio is None
            else f'<span class="{"bad" if ratio and ratio < 1 else ""}">{record.ratio_text(ratio)}</span>',
            record.rate_text(timing["rate_per_s"], case["work"]["unit"]),
            record.share_text(shares.get("fp32")),
            record.share_text(shares.get("int8")),
            record.share_text(shares.get("rows", shares.get("read"))),
            record.bytes_text(timing["extra_bytes"]),
        ]
        css = "soft" if timing["agrees"] else "bad" if ours else "warn"
        answer = f'<td class="left"><span class="{css}">{escape(timing["answer"])}</span></td>'
        rows.append(
            f"<tr{' class=mine' if ours else ''}>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + answer
            + "</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in heads) + '<th class="left">answer</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _finding(finding: dict[str, Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in finding["columns"])
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(record.value_text(value))}</td>" for value in row) + "</tr>"
        for row in finding["rows"]
    )
    return (
        f'<h3 style="margin-top:1.2rem">{escape(finding["title"])}</h3>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{escape(finding['conclusion'])}</p>"
    )


def _fastest_first(timings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(timings, key=lambda t: math.inf if t["median_s"] is None else t["median_s"])


# ---------------------------------------------------------------------------------------------------------- plots


class _Log:
    """A logarithmic scale from data to pixels, with ticks at 1, 2 and 5 times powers of ten."""

    def __init__(self, values: Iterable[float], start: float, stop: float, *, margin: float = 1.25) -> None:
        found = [value for value in values if value and math.isfinite(value)]
        low, high = (min(found) / margin, max(found) * margin) if found else (0.5, 2.0)
        if high / low < 3:  # a decade's third at least, or small differences would look large
            middle = math.sqrt(low * high)
            low, high = middle / math.sqrt(3), middle * math.sqrt(3)
        self.low, self.high, self.start, self.stop = low, high, start, stop

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, most: int = 9) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1,)):
            found = [step * 10.0**power for power in powers for step in steps]
            found = [tick for tick in found if self.low <= tick <= self.high]
            if len(found) <= most:
                return found
        return found


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str, *, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str, extra: str = "") -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{css}" {extra}/>'


def _dot(x: float, y: float, css: str, title: str, radius: float = 5) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" class="{css}"><title>{escape(title)}</title></circle>'


def _times(case: dict[str, Any]) -> str:
    """Median and quartiles of every contender on a logarithmic axis of time."""
    timings = [timing for timing in _fastest_first(case["contenders"]) if timing["median_s"]]
    if not timings:
        return ""
    left, right = 300, WIDTH - 70
    x = _Log([value for t in timings for value in (*t["quartiles_s"], t["median_s"])], left, right)
    bottom = ROW * len(timings) + 8
    parts = []
    for tick in x.ticks():
        parts += [_line(x(tick), 4, x(tick), bottom, "grid")]
        parts += [_text(x(tick), bottom + 16, _tick_seconds(tick), css="soft", anchor="middle")]
    for at, timing in enumerate(timings):
        y = ROW * at + ROW / 2 + 4
        ours = timing["peer"] == OURS
        css = "mine" if ours else "other"
        low, high = timing["quartiles_s"]
        label = timing["name"] if timing["agrees"] else f"{timing['name']} (answer differs)"
        parts += [
            _text(left - 14, y + 4, _shortened(label, 46), css="mine" if ours else "", anchor="end"),
            _line(x(low), y, x(high), y, css, 'stroke-width="2"'),
            _dot(
                x(timing["median_s"]), y, css, f"{timing['name']}: {record.seconds_text(timing['median_s'])}"
            ),
            _text(
                max(x(high), x(timing["median_s"])) + 10,
                y + 4,
                record.seconds_text(timing["median_s"]),
                css="soft",
            ),
        ]
    return _svg(bottom + 24, f"times of {case['title']}", parts)


def _overview(cases: list[dict[str, Any]]) -> str:
    """The best peer's time over fastrec's, for every case that has one: right of 1 fastrec is faster."""
    shown = [case for case in cases if case["ratio_to_best_peer"]]
    if not shown:
        return '<p class="soft">No peer took part in this run.</p>'
    left, right = 230, WIDTH - 250
    x = _Log([1.0, *(case["ratio_to_best_peer"] for case in shown)], left, right)
    bottom = ROW * len(shown) + 8
    parts = []
    for tick in x.ticks():
        parts += [_line(x(tick), 4, x(tick), bottom, "grid")]
        parts += [_text(x(tick), bottom + 16, f"{tick:g}x", css="soft", anchor="middle")]
    parts.append(_line(x(1), 0, x(1), bottom, "axis", 'stroke-width="2"'))
    for at, case in enumerate(shown):
        y, ratio = ROW * at + ROW / 2 + 4, case["ratio_to_best_peer"]
        css = "mine" if ratio >= 1 else "lost"
        parts += [
            _text(left - 14, y + 4, case["name"], anchor="end"),
            _line(x(1), y, x(ratio), y, css, 'stroke-width="3"'),
            _dot(x(ratio), y, css, f"{case['name']}: {record.ratio_text(ratio)} {case['best_peer']}"),
            _text(max(x(ratio), x(1)) + 12, y + 4, record.ratio_text(ratio), css=css),
            _text(max(x(ratio), x(1)) + 62, y + 4, _shortened(case["best_peer"], 30), css="soft"),
        ]
    parts.append(_text(x(1), bottom + 34, "peer faster  |  fastrec faster", css="soft", anchor="middle"))
    return _svg(bottom + 42, "time of the best peer over fastrec's", parts)


def _roofline(run: dict[str, Any]) -> str:
    """Arithmetic rate over operations a byte: fastrec's point and the best peer's, under the measured roofs."""
    roofs = run["roofs"]
    points = []
    for case in run["cases"]:
        work = case["work"]
        volume = work["random_bytes"] or work["bytes"]
        if case["status"] != "done" or not work["operations"] or not volume:
            continue
        for timing in case["contenders"]:
            if timing["median_s"] and (timing["peer"] == OURS or timing["name"] == case["best_peer"]):
                rate = work["operations"] / timing["median_s"] / 1e9
                points.append(
                    (work["operations"] / volume, rate, timing["peer"] == OURS, case["name"], timing["name"])
                )
    if not points:
        return '<p class="soft">No case of this run counts operations and bytes.</p>'
    height, left, right, top = 420, 64, WIDTH - 30, 16
    bottom = height - 46
    x = _Log([0.25, *(point[0] for point in points)], left, right, margin=1.6)
    y = _Log([roofs["int8"] * 1.3, *(point[1] for point in points)], bottom, top, margin=1.5)
    parts = []
    for tick in x.ticks():
        parts += [_line(x(tick), top, x(tick), bottom, "grid")]
        parts += [_text(x(tick), bottom + 17, f"{tick:g}", css="soft", anchor="middle")]
    for tick in y.ticks():
        parts += [_line(left, y(tick), right, y(tick), "grid")]
        parts += [_text(left - 8, y(tick) + 4, f"{tick:g}", css="soft", anchor="end")]
    for name, rate, unit in (("int8 peak", roofs["int8"], "GOP/s"), ("fp32 peak", roofs["fp32"], "GFLOP/s")):
        corner = max(x.low, min(x.high, rate / roofs["read"]))
        if y.low < rate < y.high:
            parts.append(_line(x(corner), y(rate), right, y(rate), "roof"))
            parts.append(
                _text(right, y(rate) - 6, f"{name} {record.digits(rate)} {unit}", css="soft", anchor="end")
            )
    first, last = max(x.low, y.low / roofs["read"]), min(x.high, roofs["int8"] / roofs["read"])
    if first < last:
        parts.append(_line(x(first), y(first * roofs["read"]), x(last), y(last * roofs["read"]), "roof"))
        parts.append(
            _text(
                x(first) + 26,
                y(first * roofs["read"]) + 8,
                f"memory {record.digits(roofs['read'])} GB/s",
                css="soft",
            )
        )
    for intensity, rate, ours, case, name in points:
        parts.append(
            _dot(
                x(intensity),
                y(rate),
                "mine" if ours else "other",
                f"{case}, {name}: {record.digits(rate)} Gop/s",
                5.5,
            )
        )
    parts += [
        _text((left + right) / 2, height - 8, "operations a byte of input", css="soft", anchor="middle"),
        _text(left, 10, "1e9 operations a second", css="soft"),
        _dot(right - 230, 8, "mine", "fastrec", 5),
        _text(right - 220, 12, "fastrec", css="mine"),
        _dot(right - 150, 8, "other", "best peer", 5),
        _text(right - 140, 12, "best peer (hover for names)", css="soft"),
    ]
    return _svg(height, "arithmetic rate under the machine's roofs", parts)


def _tick_seconds(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale * 0.999 or unit == "µs":
            return f"{seconds / scale:.3g} {unit}"
    raise AssertionError  # the last unit takes everything


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
