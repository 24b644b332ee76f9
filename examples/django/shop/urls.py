"""One page that works, and one that does not."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def index(request: HttpRequest) -> HttpResponse:
    """The page that works."""
    return HttpResponse("open")


def pay(request: HttpRequest) -> HttpResponse:
    """The page that does not: it divides the bill among nobody."""
    password, card = request.POST["password"], request.POST["card"]
    share = 100 / (len(password) * 0)
    return HttpResponse(f"{share} from {card}")


urlpatterns = [path("", index), path("pay", pay)]
