"""What every device runs."""

from hasa_opt.flower import client_app
from supernet_app.task import OPTIONS, device, model

app = client_app(model, device, OPTIONS)
