"""The past of a pair: what a venue's REST tells of a stretch of it, page by page."""

from collections.abc import Iterator
from functools import partial

from cryptoflow.errors import FeedRefusedError
from cryptoflow.feeds.rest import Rest
from cryptoflow.venues.past import Page, Request, Wanted


def pages(rest: Rest, wanted: Wanted | Request) -> Iterator[Page]:
    """The pages of a stretch of the past, the next one asked for when it is taken.

    They end with the one that has no `next`; where `rest.stop` is set, before it. The `next` of a page is a plain
    value: kept anywhere and handed in as `wanted` later, it goes on after that page.

    Raises:
        FeedRefusedError: the venue refuses the request for good, such as that for a pair that it does not have.
        FeedUnreachableError: the venue was no help for `rest.for_s`, counted from page to page.
    """
    request: Request | None = rest.venue.ask(wanted) if isinstance(wanted, Wanted) else wanted
    while request:
        page = _page(rest, request)
        if page is None:
            return
        yield page
        request = page.next


def _page(rest: Rest, request: Request) -> Page | None:
    try:
        return rest.ask(request.target, partial(rest.venue.read, request))
    except FeedRefusedError as error:
        _, coin, currency = request.wanted.pair
        raise FeedRefusedError(f"{rest.venue.name} gives no past trades of {coin}-{currency}: {error}.") from None
