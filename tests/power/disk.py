"""A disk that remembers everything written to it, and in which order: a FUSE file system that is one file.

A loop device on that file turns each write into a WRITE message and each cache flush into an FSYNC message. Both are logged, so
that the disk can be made again as it was at any moment of a power cut: what was flushed is there for certain; of what was
written since, each write came to the platters or not, and the last one may be torn.
"""
import ctypes
import errno
import os
import pathlib
import random
import signal
import struct
import subprocess
import time

RECORD = struct.Struct("<QQI4x")  # place on the disk, place in the data log, bytes; bytes 0: a flush
SECTOR = 512
LIBC = ctypes.CDLL(None, use_errno=True)
(SETATTR, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, FORGET, INTERRUPT, DESTROY, BATCH_FORGET) = \
    (4, 3, 14, 15, 16, 17, 18, 20, 25, 26, 2, 36, 38, 42)


class _Server:
    """Answers the kernel until the file system is unmounted."""

    def __init__(self, fuse, image, size, log, data):
        self.fuse, self.size = fuse, size
        self.image = os.open(image, os.O_RDWR)
        self.log, self.data = (os.open(p, os.O_WRONLY | os.O_APPEND) for p in (log, data))
        self.data_size = 0

    def reply(self, unique, body=b"", error=0):
        """One answer."""
        os.write(self.fuse, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    def attr(self):
        """struct fuse_attr of the one file."""
        return struct.pack("<QQQQQQIIIIIIIIII", 1, self.size, self.size // 512, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)

    def write(self, unique, body):
        """A write reaches the image and the log before it is confirmed."""
        offset, size = struct.unpack_from("<QI", body, 8)
        piece = body[40:40 + size]
        os.pwrite(self.image, piece, offset)
        os.write(self.data, piece)
        os.write(self.log, RECORD.pack(offset, self.data_size, size))
        self.data_size += size
        self.reply(unique, struct.pack("<II", size, 0))

    def handle(self, opcode, unique, body):
        """One message."""
        if opcode == INIT:
            flags = struct.unpack_from("<I", body, 12)[0] & (1 << 5 | 1 << 22)
            self.reply(unique, struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 20, flags, 16, 12, 1 << 20, 1, 256, 0, 0))
        elif opcode in (GETATTR, SETATTR):
            self.reply(unique, struct.pack("<QII", 1, 0, 0) + self.attr())
        elif opcode == OPEN:
            self.reply(unique, struct.pack("<QII", 0, 1, 0))  # direct: nothing is cached above us
        elif opcode == READ:
            offset, size = struct.unpack_from("<QI", body, 8)
            self.reply(unique, os.pread(self.image, size, offset))
        elif opcode == WRITE:
            self.write(unique, body)
        elif opcode == FSYNC:
            os.write(self.log, RECORD.pack(0, 0, 0))
            self.reply(unique)
        elif opcode in (RELEASE, FLUSH):
            self.reply(unique)
        elif opcode == STATFS:
            self.reply(unique, struct.pack("<QQQQQIII28x", 1 << 20, 1 << 20, 1 << 20, 1, 1, 4096, 255, 4096))
        elif opcode not in (FORGET, INTERRUPT, BATCH_FORGET):
            self.reply(unique, error=errno.ENOSYS)

    def run(self):
        """Until the kernel hangs up."""
        while True:
            try:
                message = os.read(self.fuse, (1 << 20) + 4096)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, opcode, unique = struct.unpack_from("<IIQ", message)
            if opcode == DESTROY:
                return
            self.handle(opcode, unique, message[40:])


class Disk:
    """An ext4 file system on such a disk, mounted at base/mnt."""

    def __init__(self, base, megabytes):
        self.base, self.size = pathlib.Path(base), megabytes << 20
        self.base.mkdir(parents=True)
        self.image, self.log, self.data = (self.base / n for n in ("image", "log", "data"))
        self.file, self.mount, self.start = self.base / "disk", self.base / "mnt", self.base / "start"
        for p in (self.image, self.log, self.data, self.file):
            p.touch()
        os.truncate(self.image, self.size)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True)
        subprocess.run(["cp", "--sparse=always", self.image, self.start], check=True)
        self.server = self._serve()
        self.mount.mkdir()
        self.loop = subprocess.run(["losetup", "--find", "--show", self.file], check=True, capture_output=True,
                                   text=True).stdout.strip()
        subprocess.run(["mount", "-o", "nodiscard", self.loop, self.mount], check=True)

    def _serve(self):
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=100600,user_id=0,group_id=0,allow_other,max_read=1048576"
        if LIBC.mount(b"hoy-disk", os.fsencode(self.file), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"mount a FUSE file on {self.file}")
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                _Server(fuse, self.image, self.size, self.log, self.data).run()
            finally:
                os._exit(0)
        os.close(fuse)
        return pid

    def now(self):
        """How many writes and flushes there have been."""
        return self.log.stat().st_size // RECORD.size

    def close(self):
        """Unmounts; the log stays."""
        for _ in range(600):
            if subprocess.run(["umount", self.mount], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        subprocess.run(["losetup", "-d", self.loop], check=False)
        subprocess.run(["umount", self.file], check=False)
        os.waitpid(self.server, 0)

    def records(self):
        """The log as a list of (place, place in the data, bytes)."""
        return list(RECORD.iter_unpack(self.log.read_bytes()))


class Past:
    """The disk as it was at growing moments."""

    def __init__(self, disk, path):
        self.records, self.path, self.done = disk.records(), pathlib.Path(path), 0
        self.data = os.open(disk.data, os.O_RDONLY)
        subprocess.run(["cp", "--sparse=always", disk.start, self.path], check=True)

    def _apply(self, fd, record, size=None):
        place, at, n = record
        os.pwrite(fd, os.pread(self.data, n if size is None else size, at), place)

    def cut(self, moment, seed, out):
        """Writes to out what a power cut after that many records leaves; moments must not go back."""
        flushed = max((i for i in range(moment) if self.records[i][2] == 0), default=0)
        fd = os.open(self.path, os.O_RDWR)
        for r in self.records[self.done:flushed]:
            self._apply(fd, r)
        os.close(fd)
        self.done = max(self.done, flushed)
        subprocess.run(["cp", "--sparse=always", self.path, out], check=True)
        chance = random.Random(seed)
        keep = chance.choice((0, 0.5, 0.9, 1))
        fd = os.open(out, os.O_RDWR)
        for r in self.records[flushed:moment]:
            if chance.random() < keep:
                torn = chance.random() < 0.05
                self._apply(fd, r, chance.randrange(0, r[2] + 1, SECTOR) if torn else None)
        os.close(fd)

    def close(self):
        """Removes what was made."""
        os.close(self.data)
        self.path.unlink()
