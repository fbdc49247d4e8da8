"""Where jobs run: ``base`` the contract and its retries, ``in_process``, ``local`` processes, ``cluster`` Ray; ``trial`` what a job is."""
