// A list that is drawn anew row by row: what did not change is not touched, and what did is changed in place, so that
// a button that is being pressed, a text that is selected and the focus stay what and where they are.

import { element, html } from "../html.js";

const drawn = new WeakMap();

/** Make the children of `list` what `draw` (item -> markup) makes of `items`; `key` tells the items apart. */
export function arrange(list, items, key, draw) {
  const held = holder(list);
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const wanted = new Set(items.map(key));
  for (const [name, row] of rows) if (!wanted.has(name)) row.remove();
  items.forEach((item, place) => {
    const row = drawRow(rows.get(key(item)), key(item), draw(item));
    if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
  });
  if (held) refocus(list, held);
}

function drawRow(row, key, markup) {
  if (row && drawn.get(row) === String(markup)) return row;
  const fresh = element(markup);
  fresh.dataset.key = key;
  if (row) patch(row, fresh);
  drawn.set(row ?? fresh, String(markup));
  return row ?? fresh;
}

/** Make `node` what `fresh` is; a button becomes another button only by being replaced. */
function patch(node, fresh) {
  if (node.nodeName !== fresh.nodeName || node.dataset?.do !== fresh.dataset?.do) {
    node.replaceWith(fresh);
    return;
  }
  if (node.nodeType === Node.TEXT_NODE) {
    patchText(node, fresh.data);
    return;
  }
  for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  const [children, wanted] = [[...node.childNodes], [...fresh.childNodes]];
  wanted.forEach((child, place) => { if (place < children.length) patch(children[place], child); else node.append(child); });
  for (const child of children.slice(wanted.length)) child.remove();
}

/** Replace only the part that differs: a selection elsewhere in the text stays. */
function patchText(node, text) {
  const before = node.data;
  const shorter = Math.min(before.length, text.length);
  let [start, end] = [0, 0];
  while (start < shorter && before[start] === text[start]) start += 1;
  while (end < shorter - start && before.at(-1 - end) === text.at(-1 - end)) end += 1;
  if (before !== text) node.replaceData(start, before.length - start - end, text.slice(start, text.length - end));
}

/** The buttons of a row for `moves`; their texts are `admin.<move>`, and `admin.<move>_of` with the row's name. */
export function rowButtons(language, moves, name) {
  return html`
    <div class="admin-buttons">${moves.map((move) => html`
      <button class="button" type="button" data-do="${move}" aria-label="${language.t(`admin.${move}_of`, { name })}">
        ${language.t(`admin.${move}`)}
      </button>`)}</div>`;
}

/** Let `act(key, move)` do what the buttons of the rows say; a problem is shown in `problem`, and the focus stays near. */
export function listen(list, problem, act) {
  list.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-do]");
    if (!button || button.ariaDisabled === "true") return;
    const held = holder(list, button);
    problem.show(null);
    button.ariaDisabled = "true";
    await act(held.key, held.move).catch((refusal) => complain(problem, refusal));
    button.ariaDisabled = null;
    refocus(list, held);
  });
}

/** Show a problem, and bring it to where people look. */
export function complain(problem, refusal) {
  problem.show(refusal);
  problem.element.scrollIntoView({ block: "nearest" });
}

/** Where in a list somebody is: the row's key and place, and the button; undefined where nowhere in it. */
function holder(list, at = document.activeElement) {
  const place = [...list.children].findIndex((row) => row.contains(at));
  return place < 0 ? undefined : { key: list.children[place].dataset.key, move: at.dataset.do, place };
}

/**
 * Give back a focus that was lost: to the same button, else to the first one of its row, or of the row that is in its
 * place now, else to the section's heading.
 */
export function refocus(list, { key, move, place }) {
  const { activeElement } = document;
  if (activeElement !== document.body && activeElement.getClientRects().length) return;
  const rows = [...list.children];
  const row = rows.find((each) => each.dataset.key === key) ?? rows[Math.min(place, rows.length - 1)];
  const target = row?.querySelector(`[data-do="${move}"]`) ?? row?.querySelector("button")
    ?? list.closest("section").querySelector("h2");
  target.focus({ preventScroll: true });
}
