// A list that is drawn anew row by row: what did not change is not touched, and the focus stays where it was.

import { element } from "../html.js";

const drawn = new WeakMap();

/** Make the children of `list` what `draw` (item -> markup) makes of `items`; `key` tells the items apart. */
export function arrange(list, items, key, draw) {
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, place) => {
    const markup = draw(item);
    let row = rows.get(key(item));
    rows.delete(key(item));
    if (!row || drawn.get(row) !== String(markup)) row = replaced(row, markup, key(item));
    if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
  });
  for (const row of rows.values()) row.remove();
}

function replaced(row, markup, key) {
  const fresh = element(markup);
  fresh.dataset.key = key;
  drawn.set(fresh, String(markup));
  if (!row) return fresh;
  const held = row.contains(document.activeElement) ? document.activeElement.dataset.do : null;
  row.replaceWith(fresh);
  if (held) fresh.querySelector(`[data-do="${held}"]`)?.focus({ preventScroll: true });
  return fresh;
}
