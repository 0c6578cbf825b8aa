"""Models behind HTTP, as OpenAI's API asks for them."""

from kleiber.serve.app import create_app
from kleiber.serve.opened import Kind, Opened, open_served
from kleiber.serve.run import serve
from kleiber.serve.settings import ServeSettings

__all__ = ["Kind", "Opened", "ServeSettings", "create_app", "open_served", "serve"]
