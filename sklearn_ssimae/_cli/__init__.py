"""The command line `ssimae`: a thin layer over the public Python interface.

`parser` holds the arguments of all commands, `main` runs one and says in one line what went
wrong, `files` reads and writes. Every other module is the command of its name, with a function
`run(options)` that returns the exit status; it is imported when its command is called, so that
``--help`` need not wait for torch.
"""
