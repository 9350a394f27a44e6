"""virt-clone: makes a guest after another, with copies of its disks."""


def main() -> int:
    """Run the program with the arguments of this process; returns its exit code."""
    from guesthouse.cli.virt_clone.program import main as run

    return run()
