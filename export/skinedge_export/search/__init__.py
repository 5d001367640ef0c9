"""Search for the smallest precision whose file passes the gates."""
