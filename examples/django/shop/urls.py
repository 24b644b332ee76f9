"""A page that works, one that does not, and one that stores an order and its confirmation together."""

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from shared import outbox
from shared.signatures import mailer
from shop.models import Order


def index(request: HttpRequest) -> HttpResponse:
    """The page that works."""
    return HttpResponse("open")


def pay(request: HttpRequest) -> HttpResponse:
    """The page that does not: it divides the bill among nobody."""
    password, card = request.POST["password"], request.POST["card"]
    share = 100 / (len(password) * 0)
    return HttpResponse(f"{share} from {card}")


def order(request: HttpRequest) -> HttpResponse:
    """An order has a confirmation by mail; one whose payment fails has neither."""
    address = request.POST["address"]
    mail = mailer.send_email(to=[address], subject="Your order", text="Thank you.")
    with transaction.atomic():
        made = Order.objects.create(address=address, confirmation=outbox.add(connection, mail))
        if request.POST.get("card") == "declined":
            raise ValueError("the card was declined")
    return HttpResponse(f"order {made.pk}")


urlpatterns = [path("", index), path("pay", pay), path("order", order)]
