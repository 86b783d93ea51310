"""Posts messages to a webhook in the form of Slack's incoming webhooks, which other chat services take as well."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import urllib3

from recon.config.observability import Webhook
from recon.config.secrets import ReadSecret, credentials
from recon.errors import ReconError

_RETRY_AFTER_S_MAX = 3600
_SECTION = "observability.webhook"


@dataclass(frozen=True)
class Posted:
    """The answer to a message. ``problem``: why it was not taken, "" if it was; it never has the address. ``wait_s``: seconds for which
    the service asks to wait, 0 if it does not say. ``refused``: the service answered that the request is wrong (4xx, but 408 and 429)."""

    problem: str = ""
    wait_s: int = 0
    refused: bool = False


def post(webhook: Webhook, text: str, read_secret: ReadSecret) -> Posted:
    """Sends one message. Never raises, and follows no redirect: an answer other than 2xx is a problem."""
    try:
        address = webhook.url or credentials(_SECTION, None, webhook.secret, read_secret).password or ""
    except ReconError as error:
        return Posted(str(error))
    except Exception as error:
        return Posted(f"{_SECTION}.secret: the secret could not be read ({type(error).__name__})")
    answers: list[Posted] = []
    thread = threading.Thread(target=lambda: answers.append(_posted(webhook, address, text)), daemon=True)
    thread.start()
    thread.join(2 * webhook.timeout_s)  # an answer that comes byte by byte exceeds no timeout of the connection
    return answers[0] if answers else Posted("the webhook did not answer in time")


def _posted(webhook: Webhook, address: str, text: str) -> Posted:
    try:
        answer = urllib3.PoolManager(num_pools=1).request(
            "POST",
            address,
            json={"text": _escaped(text)},
            timeout=urllib3.Timeout(connect=webhook.timeout_s, read=webhook.timeout_s),
            retries=False,
            redirect=False,
            preload_content=False,  # what the service answers is of no use
        )
        answer.close()
    except Exception as error:  # its text has the address
        return Posted(f"the webhook could not be reached ({type(error).__name__})")
    if 200 <= answer.status < 300:
        return Posted()
    refused = 400 <= answer.status < 500 and answer.status not in (408, 429)
    return Posted(f"the webhook answered {answer.status}", _wait_of(answer.headers.get("Retry-After", "")), refused)


def _escaped(text: str) -> str:
    """The text as Slack shows it: names of files must not become links or mentions of people."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _wait_of(header: str) -> int:
    return min(int(header), _RETRY_AFTER_S_MAX) if header.isascii() and header.isdigit() else 0
