"""`python -m tests.demo.quick`: the demonstration with two small models, and no interpreter for each command."""

from __future__ import annotations

from unittest import mock

from enclave.hardening import silence_telemetry


def main() -> None:
    silence_telemetry()  # as the command does, before the runtime is imported
    from evaluation.demo import story
    from evaluation.demo.cli import demo
    from evaluation.demo.models import DemoModel
    from tests.deployment.small import ROWS, linear
    from tests.testkit.commands import commands_in_this_process

    def small(name: str) -> DemoModel:
        return DemoModel(name, "a small model", linear(), {"x": ROWS}, ("one", "two"), ("a", "b", "c"), "y")

    models = {"tumour_model": lambda: small("tumour"), "magika_model": lambda: small("magika")}
    with mock.patch.multiple(story, **models), commands_in_this_process():
        demo()


if __name__ == "__main__":
    main()
