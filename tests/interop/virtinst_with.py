"""A program of Debian's virt-manager with guesthouse.libvirt in libvirt-python's place.

python3 virtinst_with.py SOURCES virtinstall|virtxml|virtclone ARGUMENT...
"""

import importlib
import sys

sources, program, *arguments = sys.argv[1:]
sys.path[:0] = [sources, "/usr/share/virt-manager"]
sys.modules["libvirt"] = importlib.import_module("guesthouse.libvirt")
sys.argv = [program, *arguments]
importlib.import_module(f"virtinst.{program}").runcli()
