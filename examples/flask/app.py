"""The smallest Flask application that mails its errors."""

from logging.config import dictConfig

from flask import Flask, request

# Where the broker is, and who is mailed, the environment says: BROKER_URL here, ADMINS there.
dictConfig(
    {
        "version": 1,
        "handlers": {"mail": {"class": "shared.error_mail.ErrorMailHandler", "level": "ERROR", "source": "shop"}},
        "root": {"handlers": ["mail"]},
    }
)

app = Flask(__name__)


@app.get("/")
def index() -> str:
    """The page that works."""
    return "open"


@app.post("/pay")
def pay() -> str:
    """The page that does not: it divides the bill among nobody."""
    password, card = request.form["password"], request.form["card"]
    share = 100 / (len(password) * 0)
    return f"{share} from {card}"
