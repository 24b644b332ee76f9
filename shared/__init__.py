"""What every image holds: the contract between the services, and the machinery that they stand on."""
