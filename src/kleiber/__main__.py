"""`python -m kleiber` and `torchrun -m kleiber` do what `kleiber` does."""

from kleiber.cli.main import run

if __name__ == "__main__":
    run()
