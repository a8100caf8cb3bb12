"""The server inside MONAI Label's own command line, as its classes. No other room imports MONAI Label."""
