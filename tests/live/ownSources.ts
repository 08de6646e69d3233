import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { GitServer, TestRepository } from "../support/gitServer";
import { repositoryRoot } from "../support/stackFile";
import type { Machine } from "./liveSandbox";

const source = "src-lmcache";
const standIn = path.join(repositoryRoot, "sandbox/sources/lmcache");

/** LMCache's stand-in source in a git repository that only a token opens, on loopback. */
export class PrivateSource {
    private constructor(
        private readonly folder: string,
        private readonly server: GitServer,
        readonly commit: string,
        readonly token: string,
    ) {}

    static async start(): Promise<PrivateSource> {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-private-"));
        const repository = new TestRepository(path.join(folder, "lmcache.git"), filesOf(standIn));
        const token = randomBytes(18).toString("hex");
        // As BuildKit sends a token.
        const server = await GitServer.start(folder, `basic ${Buffer.from(`x-access-token:${token}`).toString("base64")}`);
        return new PrivateSource(folder, server, repository.git("rev-parse", "HEAD"), token);
    }

    /** The stack's configuration with this source in place of the folder; with the token where it is given. */
    async config(machine: Machine, token?: string): Promise<string> {
        const file = machine.configWith((text) => replaced(text, `repository: ${this.server.address}/lmcache.git, commit: ${this.commit}`));
        if (token !== undefined) {
            const value = JSON.stringify({ [new URL(this.server.address).host]: token });
            const set = await machine.program.pulumi(["config", "set", "--secret", "gh200-vllm:gitTokens", value, "--stack", "sandbox", "--config-file", file]);
            if (set.status !== 0) {
                throw new Error(set.output);
            }
        }
        return file;
    }

    async stop(): Promise<void> {
        await this.server.close();
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

/** A checkout of LMCache's stand-in source beside the program, as a person who develops it has. */
export function localCheckout(machine: Machine): { repository: TestRepository; config: () => string } {
    const repository = new TestRepository(path.join(machine.program.folder, "checkouts/lmcache.git"), filesOf(standIn));
    return { repository, config: () => machine.configWith((text) => replaced(text, "path: checkouts/lmcache.git.work")) };
}

function replaced(text: string, entry: string): string {
    const block = new RegExp(`^( +)${source}:(?: \\{[^}]*\\}|(?:\\n\\1 +.*)+)$`, "m");
    return text.replace(block, (_, indent: string) => `${indent}${source}: { ${entry} }`);
}

function filesOf(folder: string): Record<string, string> {
    const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return Object.fromEntries(
        entries.map((entry) => path.join(entry.parentPath, entry.name)).map((file) => [path.relative(folder, file), fs.readFileSync(file, "utf8")]),
    );
}
