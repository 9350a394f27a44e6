"""Certificates for a test: a CA, and what it signs, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A CA of its own below ``folder``; :meth:`folder_for` lays out what libvirt's ``pkipath`` expects."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.ca, self._key = folder / "cacert.pem", folder / "cakey.pem"
        self._run("req", "-x509", *_NEW_KEY, self._key, "-days", "2", "-subj", f"/CN={name}", "-out", self.ca)

    def issue(self, name: str, subject: str, *, usage: str, alt: str = "", days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key, for ``usage`` "serverAuth" or "clientAuth"; negative ``days``: past its time."""
        cert, key, request, extra = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        extra.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={alt}\n" if alt else ""))
        self._run("req", *_NEW_KEY, key, "-subj", subject, "-out", request)
        self._run(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", extra, "-out", cert),
        )
        return cert, key

    def revoke(self, cert: Path) -> Path:
        """The list of what is revoked, with ``cert`` on it from now on."""
        conf, index, crl = self.folder / "ca.conf", self.folder / "index.txt", self.folder / "crl.pem"
        conf.write_text(
            f"[ca]\ndefault_ca=x\n[x]\ndatabase={index}\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber={index}.n\n"
        )
        if not index.exists():
            index.touch()
            Path(f"{index}.n").write_text("01\n")
        ca = ("ca", "-config", conf, "-keyfile", self._key, "-cert", self.ca)
        self._run(*ca, "-revoke", cert)
        self._run(*ca, "-gencrl", "-out", crl)
        return crl

    def client(self, name: str, subject: str, *, ca: Path | None = None, days: int = 2) -> Path:
        """A folder for ``pkipath``: a client certificate, its key, and the CA (``ca``: another) that it trusts."""
        cert, key = self.issue(name, subject, usage="clientAuth", days=days)
        folder = self.folder / f"{name}.pki"
        folder.mkdir()
        (folder / "cacert.pem").write_bytes((ca or self.ca).read_bytes())
        (folder / "clientcert.pem").write_bytes(cert.read_bytes())
        (folder / "clientkey.pem").write_bytes(key.read_bytes())
        return folder

    @staticmethod
    def _run(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
