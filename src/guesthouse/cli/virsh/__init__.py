"""virsh: the command line that every KVM guide teaches, over our client library."""


def main() -> int:
    """Run virsh with the arguments of this process; returns its exit code."""
    from guesthouse.cli.virsh.main import main as run

    return run()
