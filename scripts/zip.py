#!/usr/bin/env python3
"""Packs the files that stdin names, one on each line, into a zip archive. Usage: zip.py ARCHIVE.

The script needs only Python, not the program `zip`. Every entry has the date SOURCE_DATE_EPOCH, so that the same files
give a byte-identical archive.
"""
import os
import sys
import time
import zipfile

date = time.gmtime(int(os.environ['SOURCE_DATE_EPOCH']))[:6]
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name in sys.stdin.read().splitlines():
        if os.path.isdir(name):
            continue
        entry = zipfile.ZipInfo(name, date)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        with open(name, 'rb') as file:
            archive.writestr(entry, file.read())
