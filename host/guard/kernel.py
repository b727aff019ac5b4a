"""Checks of the kernel's features and of the devices for hardware enclaves."""

from __future__ import annotations

from collections.abc import Iterator

from host.errors import GuardCode
from host.guard.finding import Finding, Severity
from host.guard.probe import Probe

DEVICES = {
    "dev/sgx_enclave": "SGX",
    "dev/sgx_provision": "SGX provisioning",
    "dev/tdx_guest": "TDX guest",
    "dev/sev-guest": "SEV-SNP guest",
    "dev/nsm": "Nitro enclave",
    "dev/tpmrm0": "TPM 2.0",
}


def kernel_findings(probe: Probe, *, may_run_unconfined: bool = False) -> Iterator[Finding]:
    """Check what the sandbox of the simulation mode and the key arena can rest on, and which hardware there is.

    An enclave that cannot be confined is not started, unless the deployment admits that by name.
    """
    yield _user_namespaces(probe)
    yield _feature(
        GuardCode.SECCOMP,
        here="errno" in (probe.text("proc/sys/kernel/seccomp/actions_avail") or "").split(),
        needed="seccomp filters (CONFIG_SECCOMP_FILTER)",
    )
    yield _landlock(probe, Severity.WARNING if may_run_unconfined else Severity.BLOCKING)
    yield _feature(
        GuardCode.MEMFD_SECRET,
        here=probe.has_memfd_secret(),
        needed="memfd_secret (Linux 5.14, secretmem.enable=1 before 6.5); locked memory is used without it",
    )
    yield _devices(probe)


def _feature(code: GuardCode, *, here: bool, needed: str) -> Finding:
    return Finding(
        code,
        Severity.WARNING,
        here,
        found="there" if here else "missing",
        needed=needed,
        remedy="boot a kernel that has it, and let the container see it",
    )


def _landlock(probe: Probe, severity: Severity) -> Finding:
    version = probe.landlock_version()
    return Finding(
        GuardCode.LANDLOCK,
        severity,
        version > 0,
        found=f"version {version}" if version else "missing: nothing keeps the enclave to its trusted files",
        needed="Linux 5.13 or newer with lsm=landlock,... and, in a container, a filter that passes its system calls",
        remedy="boot a kernel that has it, or let the container use it; or name --dangerously-unconfined",
    )


def _user_namespaces(probe: Probe) -> Finding:
    allowed = {
        "user.max_user_namespaces": probe.text("proc/sys/user/max_user_namespaces"),
        "kernel.unprivileged_userns_clone": probe.text("proc/sys/kernel/unprivileged_userns_clone"),
    }
    off = [name for name, value in allowed.items() if value is not None and value.strip() == "0"]
    if allowed["user.max_user_namespaces"] is None:
        off.append("CONFIG_USER_NS")
    if (probe.text("proc/sys/kernel/apparmor_restrict_unprivileged_userns") or "").strip() == "1":
        off.append("kernel.apparmor_restrict_unprivileged_userns")
    return Finding(
        GuardCode.USER_NAMESPACES,
        Severity.WARNING,
        not off,
        found="available" if not off else "kept off by " + ", ".join(off),
        needed="user namespaces for the sandbox of the simulation mode",
        remedy="set the named sysctl to allow them",
    )


def _devices(probe: Probe) -> Finding:
    here = [name for path, name in DEVICES.items() if probe.exists(path)]
    return Finding(
        GuardCode.TEE_DEVICE,
        Severity.NOTE,
        bool(here),
        found=", ".join(here) or "no device for a hardware enclave: the platform is SIMULATED",
        needed="a device only for a hardware enclave; none for a simulated one",
        remedy="switch the feature on in the firmware and load its driver",
    )
