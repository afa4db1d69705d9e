"""``collector pin``: gives new log files a further name, so that rotation deletes nothing while no collector runs.

A process of its own, of the standard library alone, which is hardly ever updated. It may add names and read; Landlock
keeps it from removing or writing anything outside its own folder. The collector reads what has no other name left, and
removes pins that it has closed and bookmarked.

In the folder of pins, ``<dev>-<ino>-<gen>`` is a hard link, ``<dev>-<ino>-<gen>.from`` a symbolic link whose target is
the path that the file had when it was pinned, and ``<dev>-<ino>-<gen>-<size>.gone`` such a link of a pin that was
given up because of its budget.
"""
