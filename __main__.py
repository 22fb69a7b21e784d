"""The command line: `understudy`, `python -m understudy`, or this file run by any interpreter that has torch."""


def main() -> int:
    print("understudy: the commands are being written.")
    return 0
