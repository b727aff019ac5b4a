"""Fresh quotes of a real software TPM: every kind of key, several banks, what was extended, and what was altered."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, FindingCode
from attestation.eventlog.log import UNCOVERED, EventLog, EventType, parse_event_log
from attestation.eventlog.replay import extend
from attestation.policy import Policy, load_policy, roots_for
from attestation.roots import Roots
from attestation.sim.eventlog import make_log
from attestation.sim.pki import Lifetimes
from attestation.sim.tpm_pki import certify_key, key_profile
from attestation.tpm.abi import parse_evidence
from attestation.tpm.algorithms import Hash
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import Public, fingerprint
from attestation.tpm.verified import TpmVerified
from attestation.tpm.verify import NO_END
from tests import flips
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED, refused
from tests.tpm import kit
from tests.tpm.swtpm import Key, SoftwareTpm, container, software_tpm

QUALIFYING = hashlib.sha256(REPORT_DATA).digest()
SELECTION = "sha256:0,7,16,23+sha384:16"
RESTRICTED = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"


def fingerprint_of(key: Key) -> bytes:
    return fingerprint(Public.parse(key.public).key())


def verify(data: bytes, key: Key) -> TpmVerified:
    roots = Roots.vendor().with_tpm([fingerprint_of(key)])
    verified = evidence.verify(evidence.parse(data), None, roots, NOW)
    assert isinstance(verified, TpmVerified)
    return verified


@pytest.fixture(scope="module")
def ak(tpm: SoftwareTpm) -> Key:
    return tpm.key("rsa", "rsassa")


@pytest.mark.parametrize(
    ("kind", "scheme", "hash_"),
    [
        ("rsa", "rsassa", "sha256"),
        ("rsa", "rsassa", "sha384"),
        ("rsa", "rsapss", "sha256"),
        ("rsa", "rsapss", "sha512"),
        ("rsa3072", "rsassa", "sha512"),
        ("ecc", "ecdsa", "sha256"),
        ("ecc384", "ecdsa", "sha384"),
    ],
)
def test_a_fresh_quote_verifies_under_each_kind_of_key(tpm: SoftwareTpm, kind: str, scheme: str, hash_: str) -> None:
    key = tpm.key(kind, scheme, hash_)
    data = tpm.evidence(key, SELECTION, QUALIFYING)
    parsed = parse_evidence(data)
    assert parsed.serialize() == data
    verified = verify(data, key)
    assert verified.report_data == verified.bound(REPORT_DATA)
    assert verified.quote.pcrs.get("sha384", 16) is not None
    assert verified.quote.pcrs.get("sha384", 7) is None
    assert (verified.simulated, verified.issued, verified.expires) == (False, NOW, NO_END)
    assert verified.root == verified.key == fingerprint_of(key)


def test_a_primary_key_attests_under_its_hierarchy(tpm: SoftwareTpm) -> None:
    key = tpm.primary_key("ecc256:ecdsa-sha256:null", RESTRICTED)
    data = tpm.evidence(key, SELECTION, QUALIFYING)
    assert verify(data, key).quote.attest.safe
    moved = Key(key.context, key.public, bytes.fromhex("4000000b"), key.scheme, key.hash)
    with refused(TpmCode.SIGNER_NAME):
        verify(tpm.evidence(moved, SELECTION, QUALIFYING), moved)


def clock_is_safe(tpm: SoftwareTpm) -> bool:
    return b"safe: yes" in tpm.run("tpm2_readclock")


def unsafe_after_a_shutdown(folder: Path) -> bool:
    """Have a TPM lose power, and shut it down in order soon after; tells whether its clock was not safe both times."""
    with software_tpm(folder, power_fails=True) as tpm:
        tpm.run("tpm2_readclock")
    with software_tpm(folder) as tpm:
        lost = not clock_is_safe(tpm)
        tpm.run("tpm2_shutdown", "-c")
    with software_tpm(folder) as tpm:
        return lost and not clock_is_safe(tpm)


def test_an_unsafe_clock_is_safe_again_once_it_is_saved_and_not_by_a_shutdown(tmp_path: Path) -> None:
    """What the remedy of `tpm-clock` says; on a busy machine, 4096 ms may pass on the way."""
    assert any(unsafe_after_a_shutdown(tmp_path) for _ in range(5))
    with software_tpm(tmp_path) as tpm:
        assert b"0x1000\n" in tpm.run("tpm2_getcap", "properties-fixed").partition(b"TPM2_PT_CLOCK_UPDATE")[2][:32]
        deadline = time.monotonic() + 60
        while not clock_is_safe(tpm):
            assert time.monotonic() < deadline, "it saves its clock every 4096 ms"
            time.sleep(0.2)


def test_every_bank_and_what_was_extended_show(tpm: SoftwareTpm, ak: Key) -> None:
    before = verify(tpm.evidence(ak, "sha1:16+sha256:16+sha384:16+sha512:16", QUALIFYING), ak)
    for bank in Hash:
        tpm.extend(16, bank.bank, bank.digest(b"event"))
    after = verify(tpm.evidence(ak, "sha1:16+sha256:16+sha384:16+sha512:16", QUALIFYING), ak)
    for bank in Hash:
        value = before.quote.pcrs.get(bank.bank, 16)
        assert value is not None
        assert after.quote.pcrs.get(bank.bank, 16) == extend(bank, value, [bank.digest(b"event")])
    assert after.measurement != before.measurement


def test_the_log_of_what_was_extended_replays_to_the_quote(tpm: SoftwareTpm, ak: Key) -> None:
    """PCR 23 starts at zero, and can be reset to it, so that the log holds everything since."""
    tpm.run("tpm2_pcrreset", "23")
    tpm.extend(23, "sha256", Hash.SHA256.digest(b"application"))
    log = make_log([(23, EventType.EV_EVENT_TAG, b"application")])
    replay = verify(tpm.evidence(ak, "sha256:16,23", QUALIFYING, log), ak).replay
    assert replay is not None
    assert (replay.matching, replay.differing) == ((("sha256", 23),), ())
    lied = make_log([(23, EventType.EV_EVENT_TAG, b"another application")])
    replay = verify(tpm.evidence(ak, "sha256:16,23", QUALIFYING, lied), ak).replay
    assert replay is not None
    assert (replay.matching, replay.differing) == ((), (("sha256", 23),))


def test_a_policy_that_enrolled_the_key_accepts_it_and_only_for_this_report_data(tpm: SoftwareTpm, ak: Key) -> None:
    tpm.extend(7, "sha256", Hash.SHA256.digest(b"secure boot"))
    data = tpm.evidence(ak, "sha256:0,7", QUALIFYING)
    zero, seven = "00" * 32, verify(data, ak).quote.pcrs.get("sha256", 7)
    assert seven is not None
    policy = load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"]},
            "tpm": {"pcrs": {"sha256": {"pcr0": [zero], "pcr7": [seven.hex()]}}, "ak": [fingerprint_of(ak).hex()]},
        }
    )
    verified = evidence.verify(evidence.parse(data), None, roots_for(policy), NOW)
    appraise(verified, policy, NOW, report_data=REPORT_DATA).require()
    assert appraise(verified, policy, NOW, report_data=REPORT_DATA).warnings == ()
    (wrong,) = appraise(verified, policy, NOW, report_data=bytes(64)).failed
    assert wrong.code is FindingCode.REPORT_DATA


def test_a_replayed_nonce_is_noticed(tpm: SoftwareTpm, ak: Key) -> None:
    fresh = secrets.token_bytes(64)
    old = verify(tpm.evidence(ak, SELECTION, QUALIFYING), ak)
    assert old.report_data != old.bound(fresh)


def test_altered_pcr_values_are_refused(tpm: SoftwareTpm, ak: Key) -> None:
    message, signature = tpm.quote(ak, SELECTION, QUALIFYING)
    values = tpm.pcrs(message)
    verify(container(ak, message, signature, values), ak)
    with refused(TpmCode.PCR_DIGEST):
        verify(container(ak, message, signature, [bytes(32), *values[1:-1], bytes([1]) * 48]), ak)
    with refused(TpmCode.PCR_VALUES):
        verify(container(ak, message, signature, values[:-1]), ak)


def test_pcrs_extended_between_quoting_and_reading_are_refused(tpm: SoftwareTpm, ak: Key) -> None:
    message, signature = tpm.quote(ak, SELECTION, QUALIFYING)
    tpm.extend(16, "sha384", bytes(48))
    with refused(TpmCode.PCR_DIGEST) as caught:
        verify(container(ak, message, signature, tpm.pcrs(message)), ak)
    assert "read the PCRs again" in str(caught.value.remedy)


def test_a_signature_of_another_quote_is_refused(tpm: SoftwareTpm, ak: Key) -> None:
    message, _ = tpm.quote(ak, SELECTION, QUALIFYING)
    _, other = tpm.quote(ak, SELECTION, bytes(32))
    with refused(TpmCode.SIGNATURE):
        verify(container(ak, message, other, tpm.pcrs(message)), ak)


def test_a_quote_under_another_key_of_the_same_tpm_is_refused(tpm: SoftwareTpm, ak: Key) -> None:
    other = tpm.key("ecc", "ecdsa")
    data = tpm.evidence(other, SELECTION, QUALIFYING)
    with refused(EvidenceCode.CHAIN_ROOT):
        verify(data, ak)
    message, signature = tpm.quote(other, SELECTION, QUALIFYING)
    with refused(TpmCode.SCHEME):
        verify(container(ak, message, signature, tpm.pcrs(message)), ak)


def test_a_key_that_may_sign_anything_is_refused(tpm: SoftwareTpm) -> None:
    """Its holder could have it sign a quote of his own making."""
    free = tpm.primary_key("ecc256:ecdsa-sha256:null", RESTRICTED.replace("|restricted", ""))
    data = tpm.evidence(free, SELECTION, QUALIFYING)
    with refused(TpmCode.KEY_ATTRIBUTES) as caught:
        verify(data, free)
    assert "restricted" in str(caught.value.expected)


def test_an_endorsement_key_attests_nothing(tpm: SoftwareTpm, ak: Key) -> None:
    tpm.run("tpm2_createek", "-c", "ek2.ctx", "-G", "rsa", "-f", "tss", "-u", "ek2.pub")
    tpm.free()
    message, signature = tpm.quote(ak, SELECTION, QUALIFYING)
    key = Key("", tpm.read("ek2.pub"), ak.parent, "rsassa", "sha256")
    with refused(TpmCode.KEY_KIND):
        parse_evidence(container(key, message, signature, tpm.pcrs(message)))


def test_a_public_area_that_claims_more_than_the_key_has_is_refused(tpm: SoftwareTpm) -> None:
    """The TPM's own word for the key covers its attributes: the same key without them has another name."""
    free = tpm.primary_key("ecc256:ecdsa-sha256:null", RESTRICTED.replace("|restricted", ""))
    area = bytearray(free.public)
    area[7] |= 1  # objectAttributes, bit 16: restricted
    lied = Key(free.context, bytes(area), free.parent, free.scheme, free.hash)
    with refused(TpmCode.SIGNER_NAME):
        verify(tpm.evidence(lied, SELECTION, QUALIFYING), lied)


def test_what_the_tpm_certifies_is_no_quote(tpm: SoftwareTpm, ak: Key) -> None:
    tpm.run("tpm2_gettime", "-c", ak.context, "-q", "00", "-g", "sha256", "-o", "s", "--attestation", "m")
    tpm.free()
    with refused(TpmCode.ATTEST_TYPE):
        parse_evidence(container(ak, tpm.read("m"), tpm.read("s"), []))


# ------------------------------------------------------------------------------------------------------------ bits

QUOTED = (4, 23)


def boot_log() -> bytes:
    """A log of two banks, with vendor information, of what is extended to PCRs 4 and 23, and of more."""
    banks = (Hash.SHA256, Hash.SHA384)
    entries = (
        (0, EventType.EV_NO_ACTION, b"StartupLocality\0\0"),
        (23, EventType.EV_EVENT_TAG, b"application"),
        (4, EventType.EV_IPL, b"kernel"),
        (4, EventType.EV_SEPARATOR, bytes(4)),
        (9, EventType.EV_IPL, b"not quoted"),
    )
    log = parse_event_log(make_log(entries, banks))
    body = log.header[32:-1] + b"\x04more"  # vendorInfoSize ends the header, and counts what follows it
    header = log.header[:28] + len(body).to_bytes(4, "little") + body
    return dataclasses.replace(log, header=header).serialize()


def log_fields(log: EventLog) -> Iterator[tuple[str, int]]:
    """Every field of a log with its size; what the quote's registers and bank do not reach has a name of its own."""
    yield from (("header: register", 4), ("header: type, digest and size", 28), ("header: signature", 16))
    yield from (("header: platform class", 4), ("header: version", 2), ("header: errata", 1))
    yield from (("header: size of UINTN", 1), ("header: algorithms", 4 + 4 * len(log.algorithms)))
    yield "header: size of vendor information", 1
    used = 32 + 16 + 8 + 4 + 4 * len(log.algorithms) + 1
    yield "header: vendor information", len(log.header) - used
    for event in log.events:
        quoted = event.register in QUOTED and event.kind != EventType.EV_NO_ACTION
        yield "register" if quoted else "register that is not quoted", 4
        yield from (("event type", 4), ("number of digests", 4))
        for algorithm, digest in event.digests:
            yield "algorithm", 2
            yield "digest" if quoted and algorithm == Hash.SHA256 else "digest that is not quoted", len(digest)
        yield from (("size of event data", 4), ("event data", len(event.data)))


@pytest.fixture(scope="module")
def certified(tpm: SoftwareTpm, ak: Key) -> bytes:
    """Evidence with everything that a container has room for: a log, and a chain for the real TPM's key."""
    tpm.run("tpm2_pcrreset", "23")
    for index, data in ((23, b"application"), (4, b"kernel"), (4, bytes(4))):
        tpm.extend(index, "sha256", Hash.SHA256.digest(data))
    message, signature = tpm.quote(ak, "sha256:4,23", QUALIFYING)
    profile = key_profile(CREATED, Lifetimes())
    certificate = certify_key(SEED, profile, Public.parse(ak.public).key(), kit.sim().root)
    chain = (certificate, kit.sim().root.der)
    return container(ak, message, signature, tpm.pcrs(message), log=boot_log(), chain=chain)


def strict_policy(data: bytes) -> Policy:
    """A policy that names the quoted PCRs, and wants the log to explain them."""
    pcrs = parse_evidence(data).quote.pcrs
    values = {f"pcr{index}": [value.hex()] for _, index, value in pcrs}
    return kit.policy(pcrs={"sha256": values}, event_log_pcrs=list(QUOTED))


def container_parts(data: bytes) -> dict[str, list[range]]:
    """The bits of a container: those of its log, of its certificates, and all others."""
    ders = parse_evidence(data).key_chain

    def at(part: bytes) -> range:
        start = data.index(part)
        return range(8 * start, 8 * (start + len(part)))

    log, chain = at(boot_log()), [at(der) for der in ders]
    taken = sorted([log, *chain], key=lambda bits: bits.start)
    starts = [0, *(bits.stop for bits in taken)]
    stops = [*(bits.start for bits in taken), 8 * len(data)]
    return {"log": [log], "key_chain": chain, "rest": [*map(range, starts, stops)]}


@pytest.mark.parametrize("part", ["log", "key_chain", "rest"])
def test_every_flipped_bit_of_a_container_is_noticed_but_what_its_log_leaves_open(certified: bytes, part: str) -> None:
    """Message, signature, PCR values, public area, parent, certificates and frame; of the log, all but `UNCOVERED`."""
    policy = strict_policy(certified)
    roots = roots_for(policy)

    def check(_name: str, changed: bytes) -> None:
        appraise(evidence.verify(evidence.parse(changed), None, roots, NOW), policy, NOW).require()

    case, parts = flips.Case({"container": certified}, check), container_parts(certified)
    assert case.accepts("container", certified)
    assert sum(len(bits) for ranges in parts.values() for bits in ranges) == case.size
    unnoticed = [bit for _, bit in case.unnoticed(("container", bit) for bits in parts[part] for bit in bits)]
    if part != "log":
        assert unnoticed == []
        return
    names = [name for name, size in log_fields(parse_event_log(boot_log())) for _ in range(8 * size)]
    start = parts["log"][0].start
    assert len(names) == len(parts["log"][0])
    assert {names[bit - start] for bit in unnoticed} == set(UNCOVERED)


def test_the_type_of_an_event_matters_where_it_tells_that_nothing_was_extended(certified: bytes) -> None:
    policy = strict_policy(certified)
    head = b"".join(number.to_bytes(4, "little") for number in (4, EventType.EV_SEPARATOR))
    for kind, passes in ((EventType.EV_IPL, True), (EventType.EV_NO_ACTION, False)):
        changed = certified.replace(head, head[:4] + kind.to_bytes(4, "little"))
        assert changed != certified
        verified = evidence.verify(evidence.parse(changed), None, roots_for(policy), NOW)
        assert appraise(verified, policy, NOW).accepted is passes
