import { missingPackages, installPackages } from "./packages";
import { main, Problem, terminalReport } from "./report";
import { allTools, ensureTools, type ToolName } from "./toolchain";

/** `npm run bootstrap [-- TOOL...]`: prepares the machine, all of it or just the tools named. */
main(async () => {
    const report = terminalReport();
    const asked = process.argv.slice(2);
    const unknown = asked.find((name) => !(allTools as readonly string[]).includes(name));
    if (unknown !== undefined) {
        throw new Problem(`bootstrap: ${unknown}: is not a tool; accepted: ${allTools.join(", ")}`);
    }
    if (asked.length === 0 && missingPackages().length > 0) {
        installPackages(missingPackages(), report);
    }
    const tools = await ensureTools(asked.length > 0 ? (asked as ToolName[]) : allTools, report);
    report(`${tools.size} tools ready; \`npm run doctor\` lists them`);
    return 0;
});
