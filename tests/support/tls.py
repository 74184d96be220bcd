"""A certificate authority, what it signs, and a client with one of its certificates."""

import ssl
import subprocess
from functools import cached_property
from pathlib import Path

from . import wire
from .raw import RawClient

UTF8 = "utf8only"
BMP = "MASK:0x0800"
"""How the names of a certificate are written: `string_mask` of openssl-req(1)."""


class Authority:
    """An authority that trusts itself, for one test run; everything it makes is in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate = directory / "ca.crt"
        self._key = directory / "ca.key"
        self._make(self.certificate, self._key, "/CN=Authority", "-x509", "-days", "2")

    @cached_property
    def server(self) -> tuple[Path, Path]:
        """The certificate of 127.0.0.1, and its key."""
        return self._signed("server", "/CN=server", UTF8, "-addext", "subjectAltName=IP:127.0.0.1")

    def client(self, file: str, subject: str, mask: str = UTF8) -> tuple[Path, Path]:
        """The certificate of a subject such as "/CN=plc-1", and its key."""
        return self._signed(file, subject, mask)

    def _signed(self, file: str, subject: str, mask: str, *more: str) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        signer = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-x509", "-days", "2")
        self._make(certificate, key, subject, *signer, *more, mask=mask)
        return certificate, key

    def _make(self, certificate: Path, key: Path, subject: str, *more: str, mask: str = UTF8) -> None:
        config = key.with_suffix(".cnf")
        config.write_text(f"[req]\ndistinguished_name = names\nstring_mask = {mask}\n[names]\n", encoding="utf-8")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
        files = ("-keyout", str(key), "-out", str(certificate))
        command = ["openssl", "req", "-config", str(config), *kind, *files, "-utf8", "-subj", subject, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TlsClient(RawClient):
    """A RawClient over TLS to a port of 127.0.0.1; with a certificate and its key, if it has one."""

    def __init__(
        self, port: int, authority: Authority, identity: tuple[Path, Path] | None, version: int = wire.V311
    ) -> None:
        super().__init__(port, version)
        context = ssl.create_default_context(cafile=str(authority.certificate))
        if identity is not None:
            context.load_cert_chain(*identity)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
