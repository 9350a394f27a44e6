"""virt-install: makes a guest from a line of options, with virt-manager's grammar and defaults."""


def main() -> int:
    """Run the program with the arguments of this process; returns its exit code."""
    from guesthouse.cli.virt_install.program import main as run

    return run()
