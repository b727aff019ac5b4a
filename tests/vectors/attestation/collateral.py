"""Cases of how collateral comes to its evidence: from a folder, verified beforehand, or appraised at another time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from attestation import evidence
from attestation.amd.errors import SnpCode
from attestation.amd.tcb import Product
from attestation.azure.errors import AzureCode
from attestation.collateral import Collateral
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.validity import rfc3339
from tests.vectors.attestation import azure_snp, azure_tdx, nitro, sgx, snp, tdx
from tests.vectors.attestation.scene import DAY, NOW, Scene, merged
from tests.vectors.attestation.stages import roots_of
from tests.vectors.attestation.vector import Vector

VENDOR: Final = (("vendor", ""),)


def cases() -> Iterator[Vector]:
    yield from looked_up()
    yield from not_found()
    yield from malformed()
    yield from prepared()
    yield from of_other_roots()
    yield from two_times()


def stored(scene: Scene, text: str | None = None, name: str | None = None) -> Scene:
    """The scene with its collateral in a folder, under the name that the evidence asks for."""
    key = name or f"{evidence.collateral_key(evidence.parse(scene.evidence))}.json"
    return scene.but(collateral=None, store=((key, text or scene.collateral or ""),))


def looked_up() -> Iterator[Vector]:
    for scene in (sgx.SCENE, tdx.SCENE, snp.SCENE, azure_snp.SCENE, azure_tdx.SCENE):
        yield stored(scene).accepted("collateral in a folder", "The evidence says which file it needs.")
    lent = snp.LENT
    yield stored(lent).accepted("collateral of a vlek in a folder", "A VLEK's file is named by its TCB version alone.")
    turin = snp.scene(snp.machine(Product.TURIN))
    yield stored(turin).accepted("collateral of turin in a folder", "Turin's chip ids are 8 bytes of the field.")
    for product in (Product.MILAN, Product.GENOA):
        scene = snp.scene(snp.machine(product), version=2)
        key = evidence.collateral_key(evidence.parse(scene.evidence))
        name = f"{next(each for each in key.candidates if each.family == str(product))}.json"
        comment = "A report of version 2 does not name its product: every product's file is looked for."
        yield stored(scene, name=name).accepted(f"{product} of version 2 in a folder", comment)
    key = str(evidence.collateral_key(evidence.parse(sgx.SCENE.evidence)))
    beside = (f"{key.replace('sgx', 'tdx')}.json", tdx.SCENE.collateral or "")
    both = ((f"{key}.json", sgx.SCENE.collateral or ""), beside)
    comment = "The folder holds collateral of several platforms."
    yield sgx.SCENE.but(collateral=None, store=both).accepted("two files in a folder", comment)
    unused = nitro.SCENE.but(store=both)
    yield unused.accepted("a folder that nothing needs", "The evidence carries all that it is verified with.")


def not_found() -> Iterator[Vector]:
    for scene in (sgx.SCENE, tdx.SCENE, snp.SCENE, azure_snp.SCENE):
        empty = scene.but(collateral=None, store=())
        comment = "The folder holds nothing at all."
        yield empty.fails("collateral", "an empty folder", comment, E.COLLATERAL_MISSING)
    key = str(evidence.collateral_key(evidence.parse(sgx.SCENE.evidence)))
    kind = "platform" if key.endswith("processor") else "processor"
    for edge, name in (
        ("collateral of another authority", f"{key.rpartition('-')[0]}-{kind}.json"),
        ("collateral of another family", f"sgx-ffffffffffff-{key.rpartition('-')[2]}.json"),
        ("collateral under capitals", f"{key.upper()}.json"),
        ("collateral without an ending", key),
    ):
        comment = "Only the file of this very name is the platform's."
        yield stored(sgx.SCENE, name=name).fails("collateral", edge, comment, E.COLLATERAL_MISSING)
    version_2 = snp.scene(snp.machine(Product.TURIN), version=3)
    name = str(evidence.collateral_key(evidence.parse(version_2.evidence))).replace("turin", "unnamed")
    comment = "No file is named after a product that nobody names."
    yield stored(version_2, name=f"{name}.json").fails(
        "collateral", "unnamed in a folder", comment, E.COLLATERAL_MISSING
    )
    misnamed = stored(sgx.SCENE, tdx.SCENE.collateral)
    yield misnamed.unverified("tdx collateral under sgx", "The name lies: it is a TD's.", E.COLLATERAL_TEE)
    yield from without_a_key()


def without_a_key() -> Iterator[Vector]:
    """Evidence that does not say which collateral it needs."""
    wanted = {"pck is an authority", "pck unmarked", "pck without its extension", "quote chain in another order"}
    found = [vector for vector in sgx.cases() if vector.edge in wanted]
    assert len(found) == len(wanted)
    for vector in found:
        asked = sgx.SCENE.but(
            collateral=None,
            store=(("sgx-00906ed50000-processor.json", vector.collateral or ""),),
            evidence=vector.evidence,
            roots=vector.roots,
        )
        comment = "The PCK certificate does not say which collateral is its platform's."
        yield asked.fails("collateral", f"{vector.edge} in a folder", comment, E.COLLATERAL_KEY)


def malformed() -> Iterator[Vector]:
    """Collateral's file: exactly its fields, each of text or hex."""
    for scene, chain in ((sgx.SCENE, "pck_crl"), (snp.SCENE, "vek")):
        value: dict[str, Any] = json.loads(scene.collateral or "")
        lacking = {name: item for name, item in value.items() if name != chain}
        for edge, comment, changed in (
            ("with another field", "There is a field that no collateral has.", value | {"zeal": ""}),
            ("without a field", f"The field {chain} is missing.", lacking),
            ("with a number for text", f"The field {chain} is a number.", value | {chain: 7}),
            ("with half a byte", f"The field {chain} has an odd number of digits.", value | {chain: "0"}),
            ("with what is no hex", f"The field {chain} has a digit that is none.", value | {chain: "0g"}),
            ("with a space in hex", f"The field {chain} has a space between bytes.", value | {chain: "00 00"}),
            ("of a list", "The file is a list.", [value]),
            ("of nothing", "The file is an object without fields.", {}),
        ):
            text = json.dumps(changed, indent=1)
            yield scene.fails("collateral", f"collateral {edge}", comment, E.COLLATERAL_MALFORMED, collateral=text)
        text = scene.collateral or ""
        first = next(iter(value))
        for edge, comment, broken in (
            ("cut", "The JSON ends within the file.", text[:-1]),
            ("with trailing text", "Something follows the JSON.", text + "x"),
            (
                "with a field twice",
                "A field that comes twice says two things.",
                text.replace("{", '{"' + first + '": "",', 1),
            ),
        ):
            yield scene.fails("collateral", f"collateral {edge}", comment, E.JSON_MALFORMED, collateral=broken)
    comment = "What is filed under an enclave's platform has the fields of AMD's."
    wrong = stored(sgx.SCENE, snp.SCENE.collateral)
    yield wrong.fails("verify", "collateral of amd under intel", comment, E.COLLATERAL_TEE)
    wrong = stored(snp.SCENE, sgx.SCENE.collateral)
    comment = "What is filed under a chip has the fields of Intel's."
    yield wrong.fails("verify", "collateral of intel under amd", comment, E.COLLATERAL_TEE)
    empty = stored(sgx.SCENE, "{}")
    yield empty.fails("collateral", "an empty object in a folder", "The file has no fields.", E.COLLATERAL_MALFORMED)


# ---------------------------------------------------------------------------------------------------------- prepared


def ends(scene: Scene) -> tuple[int, int]:
    """The first second at which the scene's collateral holds, and the first at which it does not any more."""
    held: Collateral | None = None if scene.collateral is None else decode(scene.collateral.encode())
    verified = evidence.verify(evidence.parse(scene.evidence), held, roots_of(scene.roots), NOW)
    return verified.issued, verified.expires


def with_vcek() -> str:
    """Collateral of Azure's machine, with the VCEK that its evidence carries."""
    return azure_snp.MACHINE.collateral(NOW).to_json()


def prepared() -> Iterator[Vector]:
    """Collateral whose signatures and chains were verified before, under the roots that `prepared` names."""
    machines = (sgx.SCENE, tdx.SCENE, snp.SCENE, azure_snp.SCENE.but(collateral=with_vcek()), azure_tdx.SCENE)
    for scene in machines:
        ready = scene.but(prepared=scene.roots)
        yield ready.accepted("prepared collateral", "Collateral that was verified before serves as well.")
    for scene, code in (
        (sgx.SCENE, E.CRL_EXPIRED),
        (tdx.SCENE, E.CRL_EXPIRED),
        (snp.SCENE, E.CRL_EXPIRED),
    ):
        ready = scene.but(prepared=scene.roots, now=ends(scene)[1])
        comment = "Dates are looked at whenever the collateral is used."
        yield ready.unverified("prepared collateral that has ended", comment, code)
    kept = stored(sgx.SCENE).but(prepared=sgx.SCENE.roots)
    yield kept.accepted("prepared from a folder", "The folder's collateral was verified before.")
    genoa = snp.machine(Product.GENOA)
    strange = azure_snp.SCENE.but(
        prepared=azure_snp.SCENE.roots + snp.roots(genoa),
        roots=azure_snp.SCENE.roots + snp.roots(genoa),
    )
    for edge, held in (
        ("prepared with the vcek of another product", genoa.collateral(NOW)),
        ("prepared with the vcek of another serial", azure_snp.MACHINE.collateral(NOW, changes={"vek": {"serial": 7}})),
    ):
        comment = "The evidence carries the certificate of its own chip, and that is not the one that was verified."
        yield strange.unverified(edge, comment, AzureCode.VCEK, collateral=held.to_json())
    lent = snp.LENT.but(collateral=snp.SCENE.collateral)
    comment = "The certificate that was verified is a VCEK, and the report names a VLEK."
    yield lent.but(prepared=lent.roots).unverified("prepared with another kind of key", comment, SnpCode.VEK_KIND)
    swapped = tdx.SCENE.but(collateral=sgx.SCENE.collateral, roots=sgx.SCENE.roots, prepared=sgx.SCENE.roots)
    yield swapped.unverified("prepared collateral of sgx", "It was verified as an enclave's.", E.COLLATERAL_TEE)


def of_other_roots() -> Iterator[Vector]:
    for scene in (sgx.SCENE, tdx.SCENE, snp.SCENE, azure_tdx.SCENE):
        rule = "Collateral that was verified under some roots says nothing under others."
        ready = scene.but(prepared=scene.roots)
        yield ready.unverified("prepared under other roots", rule, E.COLLATERAL_ROOTS, roots=VENDOR)
        more = (*scene.roots, ("tpm", "11" * 32))
        yield ready.unverified("prepared under fewer roots", rule, E.COLLATERAL_ROOTS, roots=more)
        comment = "Verification beforehand fails as any other does."
        unready = scene.but(prepared=VENDOR)
        yield unready.fails("collateral", "prepared under the vendors", comment, E.CHAIN_ROOT)


# --------------------------------------------------------------------------------------------------------- two times


def two_times() -> Iterator[Vector]:
    """Evidence that was verified at one time, and is appraised at another."""
    rule = "What was verified is appraised only while its documents are valid: from the first until before the last."
    for scene in (sgx.SCENE, tdx.SCENE, snp.SCENE):
        issued, expires = ends(scene)
        for edge, at in (("first second", issued), ("last second", expires - 1)):
            yield appraised(scene, at).accepted(f"appraised in the {edge}", rule)
        for edge, at in (("before its documents", issued - 1), ("when its documents end", expires)):
            yield appraised(scene, at).refused(f"appraised {edge}", rule, F.COLLATERAL_DATES)
    issued, expires = ends(sgx.SCENE)
    aged = merged(sgx.SCENE.policy, evidence={"max_collateral_age": DAY})  # type: ignore[arg-type]
    scene = sgx.SCENE.but(policy=aged)
    comment = "A day has passed between verification and appraisal, and the policy allows no more."
    yield appraised(scene, issued + DAY).accepted("appraised at the greatest age", comment)
    comment = "The age of collateral counts at the appraisal."
    yield appraised(scene, issued + DAY + 1).refused("appraised above the greatest age", comment, F.COLLATERAL_AGE)
    comment = "Too old and ended: both are said."
    yield appraised(scene, expires).refused(
        "appraised too old and too late", comment, F.COLLATERAL_AGE, F.COLLATERAL_DATES
    )


def appraised(scene: Scene, at: int) -> Scene:
    return scene.but(details={"appraised": rfc3339(at)})
