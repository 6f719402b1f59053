// Builds plot.js, which begins with the licences of all that is in it. Needs node; an install of tlc_jax does not.
//
//     npm install && npm run build
import {build} from "esbuild";
import {readFileSync, readdirSync, rmSync, writeFileSync} from "node:fs";

const {metafile} = await build({
  entryPoints: ["entry.js"],
  outfile: "plot.js",
  bundle: true,
  minify: true,
  metafile: true,
  format: "iife",
  globalName: "Plot",
  target: "es2020",
  charset: "ascii",
  legalComments: "none",
});
const used = Object.entries(Object.values(metafile.outputs)[0].inputs)
  .filter(([path, {bytesInOutput}]) => path.startsWith("node_modules/") && bytesInOutput > 0)
  .map(([path]) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)[1]);
const licences = new Map();  // text: packages
for (const folder of [...new Set(used)].sort()) {
  const {name, version, license} = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = readFileSync(`${folder}/${file}`, "utf8").trim();
  licences.set(text, [...(licences.get(text) ?? []), `${name} ${version} (${license})`]);
}
const banner = [...licences].map(([text, names]) => `${names.join(", ")}\n\n${text}`).join("\n\n\n");
const content = `/*\nBuilt by build.mjs from:\n\n${banner}\n*/\n${readFileSync("plot.js", "utf8")}`;
if (/<\/script|<!--/i.test(content)) throw new Error("plot.js would end the page's script element");
writeFileSync("plot.js", content);
rmSync("node_modules", {recursive: true});
rmSync("package-lock.json", {force: true});
