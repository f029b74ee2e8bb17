// The API of the page's own server.

export class Failed extends Error {
  constructor(status, fault) {
    super(fault.message);
    this.status = status;
    this.parameter = fault.parameter;
  }
}

const OUT_OF_REACH = { message: "The page's server does not answer: it ended, or is starting.", parameter: null };

export async function get(path, parameters = {}) {
  let response;
  try {
    response = await fetch(`api/${path}?${new URLSearchParams(parameters)}`, {
      headers: { Accept: "application/json" },
    });
  } catch {
    throw new Failed(0, OUT_OF_REACH);
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({ error: { message: `The server answered ${response.status}.` } }));
  throw new Failed(response.status, body.error);
}

/**
 * Live events of some series ({market, pair}); gives a function that ends them.
 * A browser reconnects by itself, with the last id; only where it gives up, as after an error's answer, we begin anew.
 */
export function watch(series, windowS, listeners) {
  const query = new URLSearchParams([
    ...series.flatMap(({ market, pair }) => [
      ["market", market],
      ["pair", pair],
    ]),
    ["window", windowS],
  ]);
  let source = null;
  let again = null;
  let anew = false;
  const open = () => {
    source = new EventSource(`api/live?${query}`);
    source.onopen = () => {
      listeners.state("live");
      if (anew) listeners.reset();
      anew = false;
    };
    source.onerror = () => {
      listeners.state("away");
      if (source.readyState !== EventSource.CLOSED) return;
      anew = true;
      again = setTimeout(open, 2000);
    };
    for (const kind of ["candle", "hour"]) {
      source.addEventListener(kind, (event) => listeners[kind](JSON.parse(event.data)));
    }
    source.addEventListener("reset", () => listeners.reset());
  };
  open();
  return () => {
    clearTimeout(again);
    source.close();
  };
}
