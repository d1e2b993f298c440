"""Runs a program in a pseudo-terminal: stdin are its keys, stdout is its screen, the exit code is its own."""
import os, pty, sys

sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
