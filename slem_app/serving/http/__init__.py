"""Routes: requests are checked and parsed here and handed to the other rooms, which do not know HTTP."""
