"""A client: signs in at the server, offers services, opens listeners for others' services."""
