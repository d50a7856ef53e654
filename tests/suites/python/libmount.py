"""What crun's test_mounts.py asks of util-linux's Python binding (which Debian does not package): a mountinfo file as a table."""


class Mount:
    """One line of mountinfo(5)."""

    def __init__(self, line):
        left, _, right = line.partition(" - ")
        fields = left.split()
        self.target, self.vfs_options = fields[4], fields[5]
        self.fstype, self.source, self.fs_options = (right.split() + ["", "", ""])[:3]


class Table:
    """The lines of a file."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.mounts = [Mount(line) for line in f if " - " in line]

    def find_target(self, target):
        """The last mount on target: the one that is seen."""
        return next((m for m in reversed(self.mounts) if m.target == target), None)
