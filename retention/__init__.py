"""The only holder of deletion rights: expiry, daily indices, freeing the bus."""
