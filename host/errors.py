"""Codes of the host agent: what it tells clients, enclaves and its operator."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError

_STATUS = "`strongroom host status` tells how the enclave fares"
_LATER = "try again in a moment"
_VERSIONS = "render the enclave's manifest with the release that the host runs"
_INSPECT = "on the host, `strongroom inspect FILE` tells whether the sealed file is whole"


class HostCode(ErrorCode):
    """Codes of relay, supervisor, model folder, admin interface and guard."""

    # Told to clients in "!error" frames.
    ROUTE_UNKNOWN = (
        "route-unknown",
        Fault.REFUSED,
        "no deployment on this host has that route",
        "name a route that `strongroom host status` shows",
    )
    ENCLAVE_DOWN = "enclave-down", Fault.UNAVAILABLE, "the deployment has no running enclave at the moment", _STATUS
    ENCLAVE_LOST = (
        "enclave-lost",
        Fault.UNAVAILABLE,
        "the enclave ended while the session was open",
        "connect again; `strongroom host status` tells why the enclave ended",
    )
    HOST_BUSY = "host-busy", Fault.UNAVAILABLE, "the host carries as much as it is allowed to", _LATER
    HOST_DRAINING = (
        "host-draining",
        Fault.UNAVAILABLE,
        "the host finishes its sessions and takes no new ones",
        "ask another host, or wait until this one is up again",
    )
    STREAMS_EXCEEDED = (
        "streams-exceeded",
        Fault.REFUSED,
        "the connection has opened too many streams at once",
        "close sessions that are not in use",
    )
    STREAM_DISPLACED = (
        "stream-displaced",
        Fault.UNAVAILABLE,
        "a client with fewer sessions needed this one's place",
        "connect again, and close sessions that are not in use",
    )
    STREAM_ENDED = "stream-ended", Fault.REFUSED, "a frame arrived for a stream that is over", "open a new session"
    CLIENT_SLOW = (
        "client-slow",
        Fault.REFUSED,
        "the client does not read what it is sent",
        "read the answers while they come, and connect again",
    )
    CLIENT_IDLE = (
        "client-idle",
        Fault.REFUSED,
        "the connection was idle, or its frame unfinished, for too long",
        "connect again",
    )
    # Told to enclaves in "!fetch" replies.
    FETCH_MALFORMED = "fetch-malformed", Fault.MALFORMED, "the fetch request does not follow its format", _VERSIONS
    FETCH_RANGE = "fetch-range", Fault.REFUSED, "the fetch reaches beyond the file or its length bound", _INSPECT
    FETCH_BUSY = "fetch-busy", Fault.UNAVAILABLE, "too many fetches are waiting for an answer", _LATER
    FETCH_UNKNOWN = (
        "fetch-model-unknown",
        Fault.UNAVAILABLE,
        "no sealed model with that digest is in the folder",
        "put the owner's sealed file into the folder of models; `strongroom host models` shows it",
    )
    FETCH_UNREADABLE = (
        "fetch-model-unreadable",
        Fault.UNAVAILABLE,
        "the sealed model cannot be read from disk",
        _INSPECT,
    )
    # Told to the operator.
    ADDRESS_IN_USE = "address-in-use", Fault.UNAVAILABLE, "another program listens on the address"
    ADDRESS_UNUSABLE = "address-unusable", Fault.UNAVAILABLE, "the address cannot be listened on"
    SOCKET_PATH_TOO_LONG = "socket-path-too-long", Fault.USAGE, "a Unix socket's path is longer than the kernel takes"
    HOME_RUNNING = "home-running", Fault.UNAVAILABLE, "a host agent already runs in this home folder"
    HOME_UNUSABLE = (
        "home-unusable",
        Fault.UNAVAILABLE,
        "the home folder cannot be used",
        "choose a folder that this user may write to",
    )
    HOST_NOT_RUNNING = "host-not-running", Fault.UNAVAILABLE, "no host agent answers in this home folder"
    MODELS_MISSING = "models-missing", Fault.USAGE, "the folder of sealed models does not exist"
    ENCLAVE_MANIFEST_MISSING = "enclave-manifest-missing", Fault.USAGE, "the enclave's manifest does not exist"
    ENCLAVE_NOT_READY = (
        "enclave-not-ready",
        Fault.UNAVAILABLE,
        "the enclave did not become ready",
        "see what `strongroom host check` finds, or allow more with --ready-timeout",
    )
    ENCLAVE_PROTOCOL = (
        "enclave-protocol",
        Fault.MALFORMED,
        "the enclave sent something that is not the protocol",
        _VERSIONS,
    )
    ADMIN_REFUSED = (
        "admin-refused",
        Fault.REFUSED,
        "the caller is neither the agent's user nor root",
        "run the command as the agent's user, or as root",
    )
    ADMIN_MALFORMED = (
        "admin-malformed",
        Fault.MALFORMED,
        "the admin request or answer does not follow its format",
        "use the same release as the running agent",
    )
    CONFIGURATION_INVALID = (
        "host-configuration-invalid",
        Fault.USAGE,
        "an option of the host agent is out of range",
        "docs/operations.md explains each option of `strongroom host up`",
    )
    CHECK_FAILED = (
        "check-failed",
        Fault.REFUSED,
        "the machine does not meet a blocking requirement",
        "do what is said of each blocking finding",
    )
    METRICS_EXPOSED = (
        "metrics-exposed",
        Fault.USAGE,
        "the page of metrics would be open to other machines",
        "serve it on a Unix socket or a loopback address",
    )
    OTLP_MISSING = (
        "otlp-missing",
        Fault.UNAVAILABLE,
        "the library that pushes to an OpenTelemetry collector is not installed",
        "pip install 'strongroom[otel]'",
    )
    HOST_FAILED = (
        "host-failed",
        Fault.INTERNAL,
        "the host agent ended in a way that it should not",
        "see the agent's log, where there is one; please report it",
    )


class HostError(StrongroomError):
    """Raised by `host` for anything that it refuses."""


class GuardCode(ErrorCode):
    """Codes of what `strongroom host check` looks at; a finding says whether it is as it should be."""

    PYTHON = "guard-python", Fault.UNSUPPORTED, "the interpreter is recent enough"
    MEMORY = "guard-memory", Fault.UNAVAILABLE, "there is memory for the models and the enclave"
    DISK = "guard-disk", Fault.UNAVAILABLE, "there is disk space for logs and state"
    SWAP = "guard-swap", Fault.REFUSED, "memory of the enclave cannot be written to a swap device"
    CORE_DUMPS = "guard-core-dumps", Fault.REFUSED, "a crash leaves no memory image on disk"
    DESCRIPTORS = "guard-descriptors", Fault.UNAVAILABLE, "the agent may open enough connections"
    CLOCK = "guard-clock", Fault.UNAVAILABLE, "the clock is synchronised: evidence and collateral carry times"
    USER_NAMESPACES = "guard-user-namespaces", Fault.UNSUPPORTED, "the sandbox can use user namespaces"
    SECCOMP = "guard-seccomp", Fault.UNSUPPORTED, "the kernel filters system calls"
    LANDLOCK = "guard-landlock", Fault.UNSUPPORTED, "the kernel has Landlock switched on"
    MEMFD_SECRET = "guard-memfd-secret", Fault.UNSUPPORTED, "keys can rest in memory that the kernel itself hides"
    TEE_DEVICE = "guard-tee-device", Fault.UNSUPPORTED, "the machine offers hardware for an enclave"
    HOME_FOLDER = "guard-home-folder", Fault.REFUSED, "the home folder is the agent's own"
    PLATFORM_FOLDER = "guard-platform-folder", Fault.REFUSED, "the simulated platform's keys are the agent's own"
    MODELS_FOLDER = "guard-models-folder", Fault.REFUSED, "the models folder is there and nobody else writes to it"
    MODELS_PRESENT = "guard-models-present", Fault.UNAVAILABLE, "there is a sealed model in the folder"
    MODELS_SEALED = "guard-models-sealed", Fault.MALFORMED, "every sealed model in the folder is whole"
    MODELS_UNIQUE = "guard-models-unique", Fault.USAGE, "no sealed model is in the folder twice"
    MANIFEST = "guard-manifest", Fault.REFUSED, "the enclave's manifest is usable and its trusted files are unchanged"
    LISTENER_FREE = "guard-listener-free", Fault.UNAVAILABLE, "the listening address is free"
    LISTENER_LOCAL = "guard-listener-local", Fault.REFUSED, "the listening address is reachable from here only"
    PACKAGES = "guard-packages", Fault.REFUSED, "no other distribution provides our packages"
