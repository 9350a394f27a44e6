"""virt-xml: edits a guest's document by virt-install's sub-options."""


def main() -> int:
    """Run the program with the arguments of this process; returns its exit code."""
    from guesthouse.cli.virt_xml.program import main as run

    return run()
