"""What the benchmarks share: a corpus, processes that are measured, and facts about the machine.

Whoever imports it finds the rooms first: the folder of a script that runs holds modules of packages' names, and other
distributions bring a ``tests`` of their own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
