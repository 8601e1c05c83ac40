// tus-js-client uploads a file: FOLDER (with node_modules) ENDPOINT TOKEN FILE OPTIONS. Prints the upload's address.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, endpoint, token, path, options] = process.argv.slice(2);
const { Upload } = createRequire(`${folder}/`)("tus-js-client");

const upload = new Upload(readFileSync(path), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: "clip.mp4", filetype: "video/mp4", purpose: "video" },
  retryDelays: Array(100).fill(100),
  ...JSON.parse(options),
  onError(error) {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess() {
    console.log(upload.url);
  },
});
upload.start();
