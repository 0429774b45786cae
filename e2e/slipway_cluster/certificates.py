"""A certificate authority of our own, by the ``openssl`` program.

Keys are on the P-256 curve: made in milliseconds, accepted by every component.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway_cluster.process import run

DAYS = "3650"


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate and its private key, both PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; what it issued before is reused."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self.own = Certificate(folder / "ca.crt", folder / "ca.key")
        if not self.own.certificate.exists():
            new_key(self.own.key)
            run(
                *("openssl", "req", "-x509", "-new", "-key", self.own.key, "-subj", f"/CN={name}", "-days", DAYS),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature", "-out", self.own.certificate),
            )

    def issue(
        self, file: str, common_name: str, *, organizations: Sequence[str] = (), names: Sequence[str] = ()
    ) -> Certificate:
        """Issue a certificate for servers and clients.

        Args:
            file: name of its files without suffix.
            common_name: the user a client is, for Kubernetes.
            organizations: the groups that user is in, for Kubernetes.
            names: what a server is called, as ``DNS:…`` and ``IP:…``.
        """
        issued = Certificate(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        if issued.certificate.exists():
            return issued
        request, extensions = self._folder / f"{file}.csr", self._folder / f"{file}.ext"
        subject = "".join(f"/O={_escaped(group)}" for group in organizations) + f"/CN={_escaped(common_name)}"
        new_key(issued.key)
        run("openssl", "req", "-new", "-key", issued.key, "-subj", subject, "-out", request)
        extensions.write_text(
            "extendedKeyUsage=clientAuth,serverAuth\n" + (f"subjectAltName={','.join(names)}\n" if names else "")
        )
        run(
            *("openssl", "x509", "-req", "-in", request, "-CA", self.own.certificate, "-CAkey", self.own.key),
            *("-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", issued.certificate),
        )
        return issued


def new_key(file: Path) -> None:
    """Write a new private key only its owner can read."""
    file.touch(mode=0o600)
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file)


def public_key(private: Path, file: Path) -> None:
    """Write the public half of a private key."""
    run("openssl", "ec", "-in", private, "-pubout", "-out", file)


def _escaped(value: str) -> str:
    """A slash separates the parts of a subject."""
    return value.replace("\\", "\\\\").replace("/", "\\/").replace("+", "\\+")
