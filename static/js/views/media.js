// How a video or a picture is shown in small: its poster and its facts in a line.

import { icon } from "./icons.js";
import { element, html } from "../html.js";

/** The poster, or a drawn stand-in where there is none or it does not load (its address is short-lived). */
export function poster(media, noun) {
  const standIn = () => element(html`<span class="stand-in">${icon(noun === "video" ? "film" : "picture")}</span>`);
  const url = media?.poster_url || (noun === "background" ? media?.content_url : null);
  if (!url) return standIn();
  const image = element(html`<img src="${url}" alt="" loading="lazy" decoding="async">`);
  image.addEventListener("error", () => image.replaceWith(standIn()), { once: true });
  return image;
}

/** Eight pictures from all over a video in one row; nothing where there are none. */
export function strip(media) {
  const image = element(html`<img class="strip" src="${media.strip_url}" alt="" loading="lazy" decoding="async">`);
  image.addEventListener("error", () => image.remove(), { once: true });
  return image;
}

/** What the hub measured, in a line: size, dimensions, and for videos duration, frames and sound. */
export function facts(language, media, short = false) {
  const size = media.size ? language.bytes(media.size) : null;
  const dimensions = media.width ? `${media.width}×${media.height}` : null;
  if (!media.duration) return language.line(dimensions, size);
  const clock = language.clock(media.duration);
  if (short) return language.line(clock, dimensions);
  const frames = media.frames ? language.t("media.frames", { count: media.frames, n: language.number(media.frames) }) : null;
  const sound = language.t(media.has_audio ? "media.sound" : "media.silent");
  const uneven = media.variable_frame_rate ? language.t("media.variable") : null;
  const turned = media.rotation ? language.t("media.turned", { n: language.number(media.rotation) }) : null;
  const whole = (fact) => fact?.replaceAll(" ", "\u00a0"); // "with sound" stays on one line
  return language.line(clock, dimensions, [rate(language, media.fps), uneven, frames, turned, size, sound].map(whole));
}

function rate(language, fps) {
  const [above, below = 1] = String(fps ?? "").split("/").map(Number);
  const value = above / below;
  return value > 0 && Number.isFinite(value) ? language.t("media.fps", { n: language.number(value, 2) }) : null;
}
