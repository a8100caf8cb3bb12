"""MONAI Label and HTTP <-> typed requests: the only home of monailabel and fastapi.

Concurrency: MONAI Label's endpoints are coroutines around blocking code, so the server does one request at a time, in one process
(never `--workers` above 1). What requests share is safe for threads all the same: the readers' works, the caches and the network have locks of
their own. What other processes may touch as well, the label store, is safe by renames alone.
"""
