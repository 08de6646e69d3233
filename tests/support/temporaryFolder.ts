import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach } from "vitest";

/**
 * Makes a folder that is gone after the test. Called at the top of a test file, since it registers
 * the clean-up; the function that it returns is called in the tests.
 */
export function temporaryFolders(): () => string {
    const made: string[] = [];
    const start = process.cwd();
    afterEach(() => {
        process.chdir(start);
        for (const folder of made.splice(0)) {
            fs.rmSync(folder, { recursive: true, force: true });
        }
    });
    return () => {
        const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "gh200-test-")));
        made.push(folder);
        return folder;
    };
}

/** Writes files by their relative paths. A text that starts with `#!` becomes executable. */
export function writeTree(root: string, files: Record<string, string>): void {
    for (const [name, text] of Object.entries(files)) {
        const file = path.join(root, name);
        fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, text);
        fs.chmodSync(file, text.startsWith("#!") ? 0o755 : 0o644);
    }
}
