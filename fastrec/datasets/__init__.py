"""Real data: two small sets that ship with fastrec, and larger ones from the folder that ``FASTREC_DATA``
names.

::

    import fastrec as fr
    fr.datasets.list()                                  # what there is, under which licence, and whether it
    is here shop = fr.datasets.load("complete_journey")         # grocery purchases with timestamps log =
    fr.datasets.load("open_bandit")               # impressions of a fashion shop with clicks and propensities
"""

from fastrec.datasets.bandit import OpenBandit
from fastrec.datasets.catalogue import Card, list, load
from fastrec.datasets.folder import Folder
from fastrec.datasets.journey import CompleteJourney

__all__ = ["Card", "CompleteJourney", "Folder", "OpenBandit", "list", "load"]
