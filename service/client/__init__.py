"""A typed client of the service, sync and async, that comes back when it is told to."""

from service.client.client import URL, AsyncClient, Client
from service.client.retry import ClientError, Refused, Unreachable

__all__ = ["URL", "AsyncClient", "Client", "ClientError", "Refused", "Unreachable"]
