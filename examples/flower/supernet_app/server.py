"""What the server runs."""

from hasa_opt.flower import server_app
from supernet_app.task import OPTIONS, model

app = server_app(model, OPTIONS)
