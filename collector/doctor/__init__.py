"""``collector doctor``: what this node's collector can read, which rights that takes, and what would be lost now.

It reads, and writes nothing but one small file in the state folder, which it removes. It takes no lock and asks the
bus only what a writer may ask, so that it may run beside a collector.
"""
