"""The pod inventory: every pod that ever was, from watch, relists, audit events, paths of logs, and docker's files.

``tell`` reads what rows say, ``records`` joins it to claims with valid time and knowledge time, ``fold`` holds all of
them, and ``views`` answers: what ran on a node, who had an address, which pods used an image or an account.
"""

from ashiato.core.inventory.fold import Inventory
from ashiato.core.inventory.records import FOLD_VERSION, Field, Sighting, Told, WatchGap
from ashiato.core.inventory.tell import COLUMNS, Heard, hear, of_log, wanted
from ashiato.core.inventory.views import Held, Pods, PodView, Run

__all__ = [
    "COLUMNS",
    "FOLD_VERSION",
    "Field",
    "Heard",
    "Held",
    "Inventory",
    "PodView",
    "Pods",
    "Run",
    "Sighting",
    "Told",
    "WatchGap",
    "hear",
    "of_log",
    "wanted",
]
