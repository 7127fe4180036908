"""An authority of one's own: makes, lists and revokes the certificates that programs show each other."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acquire.errors import ConfigError
from acquire.locking import take
from acquire.remote.tls import ALLOWED, AUTHORITY, CERTIFICATE, PRIVATE_KEY, Role

logger = logging.getLogger(__name__)

AUTHORITY_KEY = "authority.key"
ISSUED = "issued"
AUTHORITY_DAYS = 3650
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.@-]{0,61}[A-Za-z0-9_@-])?")
_EARLIER = timedelta(minutes=5)
"""Certificates are valid from a little before now: the clocks of two computers differ."""
_BUSY_S = 10.0
"""Longest wait for another command, which needs some milliseconds."""
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Listed:
    """One certificate of the list."""

    name: str
    role: str
    serial: str
    """Hexadecimal."""
    until: str
    revoked: str = ""
    """When, or empty."""


def new_authority(folder: Path, name: str = "hotstage") -> None:
    """Make an authority and an empty list of those allowed, in a new or empty folder.

    Raises:
        ConfigError: there is one already; nothing is overwritten.
    """
    _good_name(name)
    taken = ConfigError(
        f"{str(folder)!r} has an authority already; a new one would make all its certificates "
        "worthless. Choose another folder."
    )
    if (folder / AUTHORITY).exists() or (folder / AUTHORITY_KEY).exists():
        raise taken
    _private_folder(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    try:
        _write_private(folder / AUTHORITY_KEY, _pem(key))
    except FileExistsError:  # by another command, a moment ago
        raise taken from None
    _write(folder / AUTHORITY, certificate.public_bytes(serialization.Encoding.PEM))
    _save(folder, [])


def issue(
    folder: Path,
    name: str,
    role: Role,
    *,
    hosts: Sequence[str] = (),
    days: float = 365,
    now: datetime | None = None,
) -> Path:
    """Make a certificate, list it as allowed, and return the folder to copy to its owner.

    Args:
        folder: of the authority.
        name: of a person or a computer.
        role: what it may do.
        hosts: names and IP addresses under which a server is reached; needed for one, and refused
            for others.
        days: how long it is valid.
        now: when that begins; default the present.

    Raises:
        ConfigError: no authority there, a name that is used, no host, days out of range, or another
            command that does not end.
    """
    _good_name(name)
    if not 0 < days <= AUTHORITY_DAYS:
        raise ConfigError(f"{days:g} days refused: from above 0 to {AUTHORITY_DAYS}.")
    if (role is Role.SERVER) != bool(hosts):
        raise ConfigError(
            f"role {role.value}: a server needs --host (the name or IP address under which it is "
            "reached), and only a server has one."
        )
    with _alone(folder):
        return _issued(folder, name, role, hosts, timedelta(days=days), now or datetime.now(UTC))


def revoke(folder: Path, name: str) -> Listed:
    """Let a certificate open nothing any more, and return what is listed of it.

    Its folder is kept under another name. Only servers read the list: who connects to a server goes
    on to trust the server's certificate until that expires.

    Raises:
        ConfigError: no such certificate is allowed, or another command does not end.
    """
    with _alone(folder):
        entries = listed(folder)
        found = [one for one in entries if one.name == name and not one.revoked]
        if not found:
            known = ", ".join(one.name for one in entries if not one.revoked) or "none"
            raise ConfigError(f"no certificate of {name!r} is allowed; allowed are: {known}.")
        now = datetime.now(UTC).isoformat("T", "seconds")
        _save(folder, [replace(one, revoked=now) if one in found else one for one in entries])
        issued = folder / ISSUED / name
        if issued.exists():
            issued.rename(issued.with_name(f"{name}.revoked-{found[0].serial[:8]}"))
        return replace(found[0], revoked=now)


def listed(folder: Path) -> list[Listed]:
    """All certificates that the authority in a folder has issued; raises ConfigError."""
    path = folder / ALLOWED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["certificates"]
        return [Listed(**{key: str(value) for key, value in one.items()}) for one in found]
    except FileNotFoundError as error:
        raise _no_authority(folder) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error}.") from error


def _issued(
    folder: Path,
    name: str,
    role: Role,
    hosts: Sequence[str],
    valid: timedelta,
    begin: datetime,
) -> Path:
    entries = listed(folder)
    target = folder / ISSUED / name
    for one in entries:
        # also of another case: some file systems, and some people, take them for one
        if one.name.casefold() == name.casefold() and not one.revoked:
            raise ConfigError(
                f"{one.name!r} has a certificate already. Revoke it "
                f"(`hotstage keys revoke {one.name}`), or choose another name."
            )
    if target.exists():
        raise ConfigError(
            f"{str(target)!r} is there, and nothing lists it: issuing it was interrupted. Delete "
            "that folder, or choose another name."
        )
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    until = begin + valid
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _EARLIER)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    _private_folder(folder / ISSUED)
    _private_folder(target)
    _write_private(target / PRIVATE_KEY, _pem(key))
    _write(target / CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
    _write(target / AUTHORITY, (folder / AUTHORITY).read_bytes())
    serial = f"{certificate.serial_number:X}"
    _save(folder, [*entries, Listed(name, role.value, serial, until.isoformat("T", "seconds"))])
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other command change the list meanwhile, since each writes all of it; raises ConfigError."""
    try:
        file = (folder / AUTHORITY).open("r+b", buffering=0)
    except FileNotFoundError as error:
        raise _no_authority(folder) from error
    except OSError as error:
        raise ConfigError(f"the authority in {str(folder)!r} cannot be used: {error}.") from error
    with file:
        until = time.monotonic() + _BUSY_S
        while not _took(file):
            if time.monotonic() > until:
                raise ConfigError(
                    f"another command has been changing {str(folder)!r} for {_BUSY_S:g} s. Let it "
                    "end, then try again."
                )
            time.sleep(_LOOK_S)
        yield


def _took(file: FileIO) -> bool:
    try:
        take(file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning(
            "%s cannot be locked (%s): run one command at a time there", file.name, error
        )
    return True


def _no_authority(folder: Path) -> ConfigError:
    return ConfigError(f"{str(folder)!r} has no authority. Make one with `hotstage keys new`.")


def _save(folder: Path, entries: Sequence[Listed]) -> None:
    partial = folder / f"{ALLOWED}.part"
    text = json.dumps({"certificates": [asdict(one) for one in entries]}, indent=2)
    partial.unlink(missing_ok=True)
    _write(partial, text.encode() + b"\n")
    partial.replace(folder / ALLOWED)  # a server that reads it meanwhile sees all of it


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        key = serialization.load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"the authority in {str(folder)!r} cannot be used: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"the authority in {str(folder)!r} has a key of another kind.")
    return certificate, key


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
            raise ConfigError(f"host {host!r} refused: a name or an IP address.") from None
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _good_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r} refused: letters, digits and _ . @ -, at most 63, as for a file."
        )


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, data: bytes) -> None:
    _write(path, data, 0o600)


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    # created with its mode: at no time can anybody else write it, or read a key
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
