"""Mail over a real SMTP connection, with real stores, by a real worker."""
