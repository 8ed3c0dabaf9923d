"""``fastrec datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def datasets(
    name: Annotated[
        str | None, typer.Argument(help="Describe this data set.", show_default="list them all")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write its tables there as Parquet (matrices as .npz)."),
    ] = None,
    policy: Annotated[str, typer.Option(help="open_bandit: random, bts or both.")] = "random",
    campaign: Annotated[str, typer.Option(help="open_bandit: all, men or women.")] = "all",
    licence: Annotated[
        bool, typer.Option("--licence", help="Print attribution and licence in full.")
    ] = False,
) -> None:
    """List the real data sets at hand, describe one, or export it to files that the other commands take.

    \b
    Examples:
      fastrec datasets
      fastrec datasets complete_journey
      fastrec datasets open_bandit --policy bts --export clicks/
    """
    import fastrec as fr
    from fastrec.cli.common import note, show
    from fastrec.datasets.catalogue import CARDS

    if name is None:
        if export is not None or licence:
            raise ValueError("--export and --licence need the name of a data set")
        frame = fr.datasets.list()
        frame["here"] = ["yes" if here else "set FASTREC_DATA" for here in frame["available"]]
        show(frame[["name", "here", "holds", "licence"]])
        return
    options: dict[str, Any] = {"policy": policy, "campaign": campaign} if name == "open_bandit" else {}
    data = fr.datasets.load(name, **options)
    card = CARDS[name]
    if licence:
        typer.echo(card.licence_text())
        return
    parts = _parts(data)
    if export is None:
        for label, text in (("", card.title), ("licence: ", card.licence), ("cite: ", card.citation)):
            typer.echo(label + text)
        for part, value in parts.items():
            columns = f": {', '.join(map(str, value.columns))}" if hasattr(value, "columns") else ""
            typer.echo(f"\n{part} {'x'.join(f'{n:,}' for n in value.shape)}{columns}")
        return
    if export.exists() and not export.is_dir():
        raise NotADirectoryError(f"cannot write to {export}: it is not a folder")
    export.mkdir(parents=True, exist_ok=True)
    for part, value in parts.items():
        note(f"wrote {_write(value, export / part)}")


def _parts(data: Any) -> dict[str, Any]:
    """The tables, matrices and vectors of a data set by name."""
    from fastrec.datasets import CompleteJourney, OpenBandit

    if isinstance(data, CompleteJourney):
        return {part: getattr(data, part) for part in ("purchases", "products", "households")}
    if isinstance(data, OpenBandit):
        features, clicks, _ = data.features()
        tables = {part: getattr(data, part) for part in ("impressions", "items", "affinity")}
        return tables | {"features": features, "clicks": clicks}
    parts: dict[str, Any] = {}
    for part in data:
        value = data[part]
        parts |= {f"{part}_{k}": v for k, v in value.items()} if isinstance(value, dict) else {part: value}
    return parts


def _write(value: Any, stem: Path) -> Path:
    import numpy as np

    from fastrec._core.files import replacing
    from fastrec.data import write_frame

    if hasattr(value, "columns"):
        path = stem.with_suffix(".parquet")
        write_frame(value, path)
        return path
    path = stem.with_suffix(".npy" if isinstance(value, np.ndarray) else ".npz")
    with replacing(path) as temporary:
        if isinstance(value, np.ndarray):
            np.save(temporary, value, allow_pickle=False)
        else:
            from scipy import sparse

            sparse.save_npz(temporary, value)
    return path
