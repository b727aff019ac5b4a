"""What a simulated platform is told to be: its TCB status, what is expired or revoked, whether enclaves debug.

Kept as `state.toml` in the platform's folder, so that tests and demonstrations can produce every state on demand.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from typing import Any

import tomli_w

from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.levels import PLATFORM_STATUSES, TcbStatus
from manifests import fields
from manifests.errors import ManifestCode, ManifestError

UNLISTED = "Unlisted"
"""Not a status of the vendor's: the platform is below every level that is published."""

TCB_STATUSES = (*(str(status) for status in TcbStatus if status in PLATFORM_STATUSES), UNLISTED)
QE_STATUSES = (str(TcbStatus.UP_TO_DATE), str(TcbStatus.OUT_OF_DATE), str(TcbStatus.REVOKED), UNLISTED)
DOCUMENTS = ("root-crl", "pck-crl", "tcb-info", "qe-identity")
REVOCABLE = ("pck-ca", "tcb-signing", "pck")

_CHOICES = {
    "tcb_status": TCB_STATUSES,
    "qe_status": QE_STATUSES,
    "expired": DOCUMENTS,
    "early": DOCUMENTS,
    "revoked": REVOCABLE,
}


@dataclass(frozen=True)
class State:
    """The states on demand; the defaults are a healthy platform.

    tcb_status and qe_status: of the platform and of its quoting enclave.  advisories: ids at the platform's level.
    expired, early: documents whose dates are past or still to come.  revoked: certificates on revocation lists.
    debug: enclaves start in debug mode.  evaluation_number: tcbEvaluationDataNumber.
    """

    tcb_status: str = str(TcbStatus.UP_TO_DATE)
    qe_status: str = str(TcbStatus.UP_TO_DATE)
    advisories: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    debug: bool = False
    evaluation_number: int = 17

    @classmethod
    def from_toml(cls, text: str) -> State:
        """Decode a state file; raises EvidenceError `simulator-state`, or ManifestError `version-unsupported`."""
        try:
            values = {"version": fields.VERSION, **tomllib.loads(text)}  # the first files were written without one
            names = [item.name for item in dataclasses.fields(cls)]
            fields.versioned_map(values, "the platform's state", (), names).pop("version")
            return cls(**{name: _value(name, value) for name, value in values.items()})
        except (ValueError, RecursionError, ManifestError) as error:
            if isinstance(error, ManifestError) and error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise _unusable(str(error)) from None

    def to_toml(self) -> str:
        """Encode to the text of a state file."""
        values = {"version": fields.VERSION, **dataclasses.asdict(self)}
        return tomli_w.dumps({name: list(v) if isinstance(v, tuple) else v for name, v in values.items()})


def _value(name: str, value: Any) -> Any:
    kind = State.__dataclass_fields__[name].type
    if kind == "bool":
        return fields.of_type(value, name, bool)
    if kind == "int":
        return fields.number(value, name, 0)
    words = [value] if kind == "str" else fields.list_of(value, name, 64)
    words = [fields.text(word, name, 64) for word in words]
    unknown = set(words) - set(_CHOICES.get(name, words))
    if unknown:
        raise _unusable(f"{name} knows no {min(unknown)!r}; it takes {', '.join(_CHOICES[name])}")
    return words[0] if kind == "str" else tuple(words)


def _unusable(why: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.SIMULATOR_STATE,
        f"the state of the simulated platform is not usable: {why}",
        remedy="run `strongroom sim reissue --reset`",
    )
