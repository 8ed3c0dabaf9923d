"""``fastrec info``."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

import typer


def info(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show version, processor, instruction sets, threads, GPU and dependencies: paste it into a bug report.

    \b
    Example:
      fastrec info --json
    """
    from fastrec._core.info import info as collect

    found = collect()
    if json:
        typer.echo(json_format.dumps(found, indent=2))
        return
    from fastrec.cli.common import console

    lines = [
        ("fastrec", found["fastrec"]),
        ("python", found["python"]),
        ("platform", found["platform"]),
        ("processor", found["processor"]),
        ("instruction set", _instruction_sets(found["isa"])),
        ("threads", found["threads"]),
        ("gpu", _gpu(found["gpu"])),
        *found["packages"].items(),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console().print(f"{name:<{width}}  {value}", soft_wrap=True, markup=False)


def _instruction_sets(isa: dict[str, Any]) -> str:
    others = [name for name in isa["usable"] if name != isa["active"]]
    idle = [name for name in isa["built"] if name not in isa["usable"]]
    text = f"{isa['active']}" + (f" (also usable: {', '.join(others)})" if others else "")
    return text + (f" (built, but not for this machine: {', '.join(idle)})" if idle else "")


def _gpu(gpu: dict[str, Any]) -> str:
    if not gpu["available"]:
        return f"none: {gpu.get('why', 'CuPy finds no card')}"
    cards = ", ".join(
        f"{card['name']} (compute {card['compute_capability']}, {card['memory_gib']} GiB)"
        for card in gpu["cards"]
    )
    compiler = f"NVRTC {gpu['nvrtc']}" if gpu.get("nvrtc") else "no NVRTC: pip install nvidia-cuda-nvrtc-cu12"
    driver = f"driver {gpu['driver'] or '(unknown)'} for CUDA {gpu['cuda']}"
    return f"{cards}; {driver}, runtime {gpu['runtime']}, CuPy {gpu['cupy']}, {compiler}"
