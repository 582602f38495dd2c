"""`python -m da3stream`"""

from da3stream.cli import main

main()
