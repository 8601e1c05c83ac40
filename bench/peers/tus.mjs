// @tus/server with its file store: node tus.mjs FOLDER_OF_NODE_MODULES PORT FOLDER_OF_FILES
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , installed, port, files] = process.argv;
const require = createRequire(`${installed}/package.json`);
const load = name => import(pathToFileURL(require.resolve(name)));
const { Server } = await load("@tus/server");
const { FileStore } = await load("@tus/file-store");

new Server({ path: "/files", datastore: new FileStore({ directory: files }) })
    .listen({ host: "127.0.0.1", port: Number(port) });
