"""What the simulator's tests share."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine must not fail a law
settings.load_profile("untimed")
