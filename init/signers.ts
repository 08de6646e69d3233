import * as fs from "node:fs";
import * as path from "node:path";
import { signersFile } from "../approval/record";

/** Who may approve changes: the first word of each line of approvals/allowed_signers. */
export function principals(): string[] {
    const file = path.join(__dirname, "..", signersFile);
    const lines = fs.existsSync(file) ? fs.readFileSync(file, "utf8").split("\n") : [];
    return lines.filter((line) => /^[^#\s]/.test(line)).flatMap((line) => line.split(/\s+/)[0]?.split(",") ?? []);
}
