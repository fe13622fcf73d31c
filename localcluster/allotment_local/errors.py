"""What can go wrong with a local cluster, told so that the reader knows what to do next.

Every failure that a user can cause or cure is a `LocalClusterError`: one sentence of what happened and a hint of
what to change. The command line prints both without a traceback. Anything else that escapes is a bug of ours and
keeps its traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of `allot local` and `python -m allotment_local.build`; documented in docs/local-cluster.md."""

    OK = 0
    FAILED = 1
    """Something went wrong while doing what was asked."""
    USAGE = 2
    """The command line or a given file is wrong; nothing was started or changed."""
    NOT_RUNNING = 3
    """There is no such cluster, or it is stopped, or one of its components is dead."""


class LocalClusterError(Exception):
    """A failure with a cure.

    Attributes:
        message: what happened, one or more lines.
        hint: what to do about it; empty where nothing helps but reading the message.
        exit_code: the status the command ends with.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class BuildError(LocalClusterError):
    """A binary could not be built or found."""


class ComponentDiedError(LocalClusterError):
    """A component ended although it should run.

    Attributes:
        component: its name.
        address_in_use: whether it ended because a port was taken.
    """

    def __init__(self, message: str, *, hint: str, component: str, address_in_use: bool) -> None:
        super().__init__(message, hint=hint)
        self.component = component
        self.address_in_use = address_in_use


class ClusterTimeoutError(LocalClusterError):
    """Something did not become ready in time."""


class NotRunningError(LocalClusterError):
    """The cluster asked for does not exist or does not run."""

    exit_code = ExitCode.NOT_RUNNING


class InvalidInputError(LocalClusterError):
    """A name, an option or a file is wrong."""

    exit_code = ExitCode.USAGE
