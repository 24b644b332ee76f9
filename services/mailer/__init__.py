"""E-mail: effectively once to each recipient, and no storm of errors in anybody's mailbox."""
