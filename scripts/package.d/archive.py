"""Packs a folder as FILE.tar.gz the same way on every system: archive.py FOLDER NAME FILE.

Entries are sorted, belong to root, have the time SOURCE_DATE_EPOCH and lie below NAME, so that the same files give the
same archive.
"""

import gzip
import os
import sys
import tarfile


def main() -> None:
    folder, name, file = sys.argv[1:]
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = epoch
        return entry

    # A name or a time in gzip's own header would differ.
    with open(file, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        # tarfile goes through folders in the order of names.
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(folder, name, filter=plain)


main()
