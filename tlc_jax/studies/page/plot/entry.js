// What the page uses of Observable Plot and d3; esbuild leaves out the rest.
export {plot, axisX, axisY, lineY, dot, ruleX, ruleY, text, tip, pointer} from "@observablehq/plot";
export {interpolateViridis, format} from "d3";
