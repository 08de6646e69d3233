import * as fs from "node:fs";
import { main, Problem } from "../tools/report";
import { previewComment } from "./markdown";
import { uploadedFacts } from "./uploaded";

/** `npx tsx report/render.ts STACK FACTS FILE`: the comment of a preview that another run made, of its facts alone. */
main(() => {
    const [stack, facts, file] = process.argv.slice(2);
    if (stack === undefined || facts === undefined || file === undefined) {
        throw new Problem("usage: npx tsx report/render.ts STACK FACTS FILE");
    }
    fs.writeFileSync(file, previewComment(uploadedFacts(stack, fs.readFileSync(facts, "utf8"))));
    return Promise.resolve(0);
});
