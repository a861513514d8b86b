"""Certificate authorities of a test, made with the `openssl` program."""

import dataclasses
import pathlib
import ssl
import subprocess

import grpc

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def _openssl(folder: pathlib.Path, *words) -> None:
    done = subprocess.run(["openssl", *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@dataclasses.dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files."""

    cert: pathlib.Path
    key: pathlib.Path

    def replace_with(self, other: "Issued") -> None:
        """Both files get the other's content, one after the other, each by a renamed file."""
        for old, new in ((self.cert, other.cert), (self.key, other.key)):
            made = old.with_suffix(".new")
            made.write_bytes(new.read_bytes())
            made.chmod(new.stat().st_mode & 0o777)
            made.rename(old)


class Authority:
    """An authority, whose certificate is `cert`."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.name, self._count = folder, name, 0
        self.cert = folder / f"{name}.pem"
        subject = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
        _openssl(folder, "req", "-x509", *_NEW_KEY, "-days", 2, *subject, "-keyout", f"{name}.key", "-out", self.cert)
        self.cert.chmod(0o644)

    def issue(self, *names: str, common_name: str = "none") -> Issued:
        """A certificate for names such as `DNS:robot.example`."""
        self._count += 1
        base = f"{self.name}-{self._count}"
        issued = Issued(self.folder / f"{base}.crt", self.folder / f"{base}.key")
        extensions = self.folder / f"{base}.ext"
        alternative = [f"subjectAltName={','.join(names)}"] if names else []
        extensions.write_text("\n".join(["basicConstraints=critical,CA:FALSE", *alternative]) + "\n")
        request = ["req", "-new", *_NEW_KEY, "-subj", f"/CN={common_name}", "-keyout", issued.key]
        _openssl(self.folder, *request, "-out", f"{base}.csr")
        signer = ["-CA", self.cert, "-CAkey", f"{self.name}.key", "-CAcreateserial"]
        sign = ["x509", "-req", "-in", f"{base}.csr", *signer, "-days", 2, "-extfile", extensions]
        _openssl(self.folder, *sign, "-out", issued.cert)
        issued.cert.chmod(0o644)
        issued.key.chmod(0o600)
        return issued

    def channel_credentials(self, identity: Issued | None = None) -> grpc.ChannelCredentials:
        """Trust in this authority, and a certificate of one's own."""
        own = (identity.key.read_bytes(), identity.cert.read_bytes()) if identity else (None, None)
        return grpc.ssl_channel_credentials(self.cert.read_bytes(), *own)

    def ssl_context(self, identity: Issued | None = None) -> ssl.SSLContext:
        """The same for HTTP."""
        context = ssl.create_default_context(cafile=self.cert)
        if identity:
            context.load_cert_chain(identity.cert, identity.key)
        return context
