"""The server: MONAI Label and HTTP <-> typed requests. The only home of monailabel and fastapi.

Concurrency: one process and one event loop (never `--workers` above 1), in which nothing waits. Handlers run
in threads, and what the network has to do waits in a queue (`models.queue`). What requests share is safe for
threads: the readers' works, the caches, the listing and the network have locks of their own. Other processes
may touch the label store as well, which is safe by renames alone.
"""
