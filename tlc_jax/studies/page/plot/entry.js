// What the page uses of Observable Plot and d3; esbuild leaves out the rest.
export {plot, lineY, dot, ruleX, ruleY, link, text, tip, pointer, pointerX} from "@observablehq/plot";
export {interpolateViridis, format} from "d3";
