// Uppy with its tus plugin uploads a file: FOLDER (with node_modules) ENDPOINT TOKEN FILE OPTIONS. Prints the address.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, endpoint, token, path, options] = process.argv.slice(2);
const installed = (name) => import(pathToFileURL(`${folder}/node_modules/${name}`).href);
const { default: Uppy } = await installed("@uppy/core/lib/index.js");
const { default: Tus } = await installed("@uppy/tus/lib/index.js");

const uppy = new Uppy({ autoProceed: false });
uppy.use(Tus, {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  allowedMetaFields: ["filename", "filetype", "purpose"],
  retryDelays: Array(100).fill(100),
  ...JSON.parse(options),
});
const data = readFileSync(path); // tus-js-client takes no File outside of browsers
data.size = data.length;
uppy.addFile({
  name: "clip.mp4", type: "video/mp4", data, meta: { filename: "clip.mp4", filetype: "video/mp4", purpose: "video" },
});
const { successful, failed } = await uppy.upload();
if (failed.length) {
  console.error(String(failed[0].error));
  process.exit(1);
}
console.log(successful[0].uploadURL);
process.exit(0);
