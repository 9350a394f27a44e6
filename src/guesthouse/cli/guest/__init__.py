"""guest: Guesthouse's own command line, for what the commands of libvirt's world have no word for."""


def main() -> int:
    """Run guest with the arguments of this process; returns its exit code."""
    from guesthouse.cli.guest.main import main as run

    return run()
