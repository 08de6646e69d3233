import { execFileSync } from "node:child_process";
import * as os from "node:os";
import * as path from "node:path";
import { catalogue, goFolders } from "./catalogue";
import { locate } from "./locate";
import { locateAny, packageFix, packageStates } from "./packages";
import { main } from "./report";
import { renderTable, type Row } from "./table";
import { atLeast, parseVersion, requiredGo } from "./versions";

const WIDTH_WITHOUT_TERMINAL = 160;
const NODE_MINIMUM = "20.19.0";

/** A shell reads `~` back. */
const short = (file: string): string => (file.startsWith(os.homedir() + path.sep) ? `~${file.slice(os.homedir().length)}` : file);

function program(name: string, versionArguments: string[], minimum: string, fix: string): Row {
    const at = locateAny([name]);
    let version: string | undefined;
    try {
        version = at && parseVersion(execFileSync(at, versionArguments, { encoding: "utf8" }).replace(/go(?=\d)/, ""));
    } catch {
        version = undefined;
    }
    if (at === undefined || version === undefined) {
        return { name, where: fix };
    }
    return atLeast(version, minimum)
        ? { name, version, origin: "PATH", where: short(at) }
        : { name, where: `${version} at ${at} is older than ${minimum}; ${fix}` };
}

function rows(): Row[] {
    const go = requiredGo(goFolders());
    const tools = catalogue.map((entry): Row => {
        const tool = locate(entry);
        if (tool !== undefined) {
            return { name: entry.name, version: tool.version, origin: tool.origin === "plugin" ? "plug-in" : tool.origin, where: short(tool.path) };
        }
        const wanted = entry.onPath === undefined ? entry.version : `${entry.onPath.minimum} or newer`;
        return { name: entry.name, where: `wants ${wanted}; npm run bootstrap -- ${entry.name}` };
    });
    const system = packageStates().map(({ package: wanted, at }): Row =>
        at === undefined
            ? { name: wanted.name, where: `${wanted.needed}; ${packageFix([wanted.name])}` }
            : { name: wanted.name, version: "present", origin: "system", where: at },
    );
    return [
        program("node", ["--version"], NODE_MINIMUM, `install Node.js ${NODE_MINIMUM} or newer`),
        program("go", ["version"], go, `install Go ${go} or newer (needed only for what cannot be downloaded)`),
        ...tools,
        ...system,
    ];
}

main(async () => {
    const all = rows();
    for (const line of renderTable(all, process.stdout.columns || WIDTH_WITHOUT_TERMINAL)) {
        console.log(line);
    }
    const missing = all.filter((row) => row.version === undefined);
    console.log(missing.length === 0 ? "\nnothing is missing" : `\n${missing.length} missing; \`npm run bootstrap\` prepares all of it`);
    return missing.length === 0 ? 0 : 1;
});
