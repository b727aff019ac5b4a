"""Bounds on memory: what ONNX Runtime may take for the requests of one model, and what the process may take in all.

Of what the runtime offers (1.32 was tried), one thing bounds a session: an arena with `max_mem`, taken
from the environment when the session is made.  Registering another arena leaves the sessions before it with theirs,
so each model gets its own.  An operator that asks for more fails, and the request with it; nothing else does.

Weights are no part of it: they are allocated apart.  After each run the arena gives back what it has taken, so a large
request leaves no room less to the next, and none of its data.  What operators allocate beside the arena, such as texts,
is bounded by the process's address space alone, where that is set.
"""

from __future__ import annotations

import resource
from typing import Any

import onnxruntime as ort

from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from manifests.onnx.requests import RequestBounds

_SAME_AS_REQUESTED = 1
"""Extend by what is asked for: doubling would use a bound up with half of it in use."""
_FIRST_CHUNK = 1 << 20


def bound_memory(options: Any, size: int) -> None:
    """Have the next session that is made under these options take at most `size` bytes for all its runs together.

    One caller at a time: between this and the making of the session nobody else may call it.
    """
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    config = {
        "max_mem": size,
        "arena_extend_strategy": _SAME_AS_REQUESTED,
        "initial_chunk_size_bytes": min(size, _FIRST_CHUNK),
    }
    ort.create_and_register_allocator(info, ort.OrtArenaCfg(config))
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


def release_memory(options: Any) -> None:
    """Have a run give back to the system what its arena has taken, when it is over."""
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def check_memory(bounds: RequestBounds | None, inputs: Tensors) -> None:
    """Refuse, before anything runs, what the graph may need too much memory for by its shapes.

    Raises EnclaveError `request-memory`.  bounds: None where the manifest states no limit.
    """
    if bounds is not None and bounds.of({name: array.shape for name, array in inputs.items()}) > bounds.limit:
        rule = f"may need more memory than the {bounds.limit} bytes that the model admits to one request"
        raise EnclaveError(EnclaveCode.REQUEST_MEMORY, f"a request of these shapes {rule}")


def bound_address_space(size: int) -> None:
    """Have every allocation of this process fail beyond `size` bytes of address space, for good; 0 for no bound."""
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
