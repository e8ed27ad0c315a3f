"""`python -m noria`."""

from noria.cli import main

if __name__ == "__main__":
    main()
