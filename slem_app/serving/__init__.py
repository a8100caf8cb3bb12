"""MONAI Label and HTTP <-> typed requests: the only home of monailabel and fastapi.

Concurrency: one process, one event loop (never `--workers` above 1) in which nothing waits: handlers run in
threads, what the network has to do takes turns (`turns`). What requests share is safe for threads: the
readers' works, the caches, the listing and the network have locks of their own. What other processes may
touch as well, the label store, is safe by renames alone.
"""
