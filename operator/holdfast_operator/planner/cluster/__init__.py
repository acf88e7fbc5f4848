"""From everything that an API server has to what is to be written there. Pure."""
