"""The next service: `make new-service NAME=thumbnailer` writes it, `make remove-service` takes it away."""
