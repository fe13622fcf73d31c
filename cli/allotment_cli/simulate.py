"""`allot simulate`: what the scheduler would do with these manifests, to the end."""

from allotment_cli.estate import Config, Files, load
from allotment_cli.outputs import Output, OutputOption, show


def simulate(
    files: Files,
    output: OutputOption = Output.table,
    config: Config = None,
) -> None:
    """Run the scheduler on manifests until nothing more can be decided, and print what it did.

    Exit codes: 0 simulated; 2 wrong usage or file; stderr says what to do.
    """
    engine, now = load(files, config)
    from allotment_scheduler.core.report import outcome_report  # noqa: PLC0415 - keeps `allot --help` quick
    from allotment_scheduler.core.simulate import run_to_fixpoint  # noqa: PLC0415 - as above

    report = outcome_report(engine, run_to_fixpoint(engine, now))
    show(report, output)
