"""Planning and running packs: the trials left to do, how they are packed, and the workers that train them."""
