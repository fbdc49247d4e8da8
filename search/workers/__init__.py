"""Where jobs run: this process, processes of this machine, a Ray cluster.

Here: what a job is (``trial``), the contract of workers and its retries (``base``), each kind of them, and what the system allows.
Not here: which trial comes next and what is written of it, which is the driver's; how a model trains.
"""
