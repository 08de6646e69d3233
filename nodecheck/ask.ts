import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { type NodeFacts, parseFacts, splitSections } from "../components/node/facts";

/** The node could not be asked; the message says why, without who was to be asked. */
export class Unanswered extends Error {}

const script = path.join(__dirname, "..", "assets/node/facts");

export function askThisMachine(): NodeFacts {
    return ask(["sh", "-s"]);
}

/** Asks over ssh, with this machine's own configuration. */
export function askOverSsh(host: string): NodeFacts {
    // A leading dash would be an option of ssh.
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.@:-]*$/.test(host)) {
        throw new Unanswered("is no host; accepted: NAME or USER@NAME");
    }
    return ask(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", host, "sh -s"]);
}

/** Reads text that was saved on the node, one file a command, each optional. */
export function readSaved(folder: string): NodeFacts {
    if (!fs.existsSync(folder)) {
        throw new Unanswered("is no folder that is there");
    }
    const names = {
        "nvidia-smi": "nvidia-smi",
        numactl: "numactl --hardware",
        free: "free",
        meminfo: "meminfo",
        iomem: "/proc/iomem",
        params: "/proc/driver/nvidia/params",
        dmidecode: "dmidecode",
        c2c: "c2c",
    };
    const sections: Record<string, string> = {};
    for (const [file, section] of Object.entries(names)) {
        const found = [file, `${file}.txt`].map((name) => path.join(folder, name)).find((candidate) => fs.existsSync(candidate));
        if (found !== undefined) {
            sections[section] = readText(found);
        }
    }
    return parseFacts(sections);
}

/** As text, also where PowerShell saved it: UTF-16 with a mark before it. */
function readText(file: string): string {
    const bytes = fs.readFileSync(file);
    return bytes.toString(bytes[0] === 0xff && bytes[1] === 0xfe ? "utf16le" : "utf8").replace(/^\ufeff/, "");
}

function ask(command: string[]): NodeFacts {
    const [program = "", ...rest] = command;
    const answer = spawnSync(program, rest, { input: fs.readFileSync(script), encoding: "utf8", timeout: 60_000 });
    if (answer.status !== 0) {
        throw new Unanswered((answer.stderr || (answer.error?.message ?? `${program} ended with ${answer.status}`)).trim().split("\n").at(-1));
    }
    return parseFacts(splitSections(answer.stdout));
}
