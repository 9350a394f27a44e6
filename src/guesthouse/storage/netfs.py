"""Pools of type "netfs": a folder that another host exports (NFS, GlusterFS, CIFS), mounted here."""

from __future__ import annotations

import logging

from guesthouse.errors import Domain, GuesthouseError, InvalidArg, OperationFailed
from guesthouse.model.storage import Pool, PoolSource, SourceDir, SourceFormat, SourceHost, Sources
from guesthouse.storage.filesystem import FileSystem
from guesthouse.storage.work import output

SHOWMOUNT = "/usr/sbin/showmount"

_log = logging.getLogger(__name__)


class NetFs(FileSystem):
    """See :class:`guesthouse.storage.backend.Backend`. mount(8) wants the file system's own helper, too: Debian has
    them in nfs-common, cifs-utils and glusterfs-client."""

    type = "netfs"

    def mount_words(self, pool: Pool) -> tuple[str, ...]:
        source = pool.source
        assert source is not None and source.hosts and source.dir is not None
        format_ = (source.format and source.format.type) or "auto"
        host, path = source.hosts[0].name or "", source.dir.path or ""
        remote = f"//{host}/{path.lstrip('/')}" if format_ == "cifs" else f"{host}:{path}"
        options = {"cifs": ["guest"], "glusterfs": ["direct-io-mode=1"]}.get(format_, [])
        if source.protocol is not None and source.protocol.version:
            options.append(f"nfsvers={source.protocol.version}")
        return "" if format_ == "auto" else format_, remote, pool.path, *options

    async def find_sources(self, spec: str | None) -> str:
        """What the host that ``spec`` names exports by NFS. Raises InvalidArg where it names none, OperationFailed
        where it exports nothing or does not answer."""
        wanted = PoolSource.from_xml(spec) if spec else PoolSource()
        if len(wanted.hosts) != 1 or not wanted.hosts[0].name:
            raise InvalidArg("hostname must be specified for netfs sources", domain=Domain.STORAGE)
        host = wanted.hosts[0].name
        try:
            text = await output(SHOWMOUNT, "--no-headers", "--exports", host)
        except GuesthouseError as error:
            _log.warning("%s", error)
            text = ""
        found = exports(text, host)
        if not found.sources:
            raise OperationFailed(f"no storage pools were found on host '{host}'", domain=Domain.STORAGE)
        return found.to_xml()


def exports(text: str, host: str) -> Sources:
    """The sources that showmount's ``text`` names: a folder a line, and who may mount it."""
    found = Sources()
    for line in text.splitlines():
        path = line.rsplit(None, 1)[0].strip() if " " in line.strip() else line.strip()
        if path.startswith("/"):
            source = PoolSource(
                hosts=[SourceHost(name=host)], dir=SourceDir(path=path), format=SourceFormat(type="nfs")
            )
            found.sources.append(source)
    return found
