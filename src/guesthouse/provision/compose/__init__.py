"""Several guests and networks from one declarative file: what it says, what must be done for it, and doing that."""
