"""AMIGo: a teacher that sets goals, and a student that learns to explore by reaching them."""

from agents.amigo.agent import AMIGoAgent
from agents.amigo.config import AMIGoConfig, Variant

__all__ = ["AMIGoAgent", "AMIGoConfig", "Variant"]
